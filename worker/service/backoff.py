"""How long to wait before something that ended is started again: longer each time, never in step.

The waits are tenacity's, which may be asked about any number of failures: 2 to the power of an
outage of hours is more than a float can hold.
"""

from __future__ import annotations

from tenacity import AsyncRetrying, RetryCallState, wait_exponential, wait_random_exponential
from tenacity.wait import wait_base


def backoff(first_seconds: float, longest_seconds: float) -> wait_base:
    """Between half and all of a time that doubles with each failure in a row, up to the longest."""
    half = (first_seconds / 2, longest_seconds / 2)
    return wait_exponential(*half) + wait_random_exponential(*half)


def seconds_after(failures: int, wait: wait_base) -> float:
    """The wait after so many failures in a row that tenacity did not see; at least 1."""
    state = RetryCallState(AsyncRetrying(), None, (), {})
    state.attempt_number = failures
    return wait(state)
