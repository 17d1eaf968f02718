"""The wait before something is started again: it doubles, has an end, and differs each time."""

from __future__ import annotations

from itertools import pairwise

import pytest

from worker.service.backoff import backoff, seconds_after


@pytest.mark.parametrize(
    ("failures", "longest"), [(1, 0.5), (2, 1), (3, 2), (4, 4), (5, 5), (9, 5)]
)
def test_the_wait_is_between_half_and_all_of_a_time_that_doubles(
    failures: int, longest: float
) -> None:
    waits = [seconds_after(failures, backoff(0.5, 5)) for _ in range(200)]
    assert all(longest / 2 <= wait <= longest for wait in waits)
    assert max(waits) - min(waits) > longest / 4
    assert all(one != other for one, other in pairwise(waits))


def test_an_outage_of_any_length_has_a_wait() -> None:
    assert seconds_after(100_000, backoff(0.5, 5)) <= 5
