"""How long to wait before something is started again: longer each time, and never in step."""

from __future__ import annotations

import random


def backoff_seconds(failures: int, first_seconds: float, longest_seconds: float) -> float:
    """Between half and all of a time that doubles with each failure, the first being 1."""
    longest = min(first_seconds * 2 ** (failures - 1), longest_seconds)
    return random.uniform(longest / 2, longest)  # noqa: S311  # Jitter, not a secret.
