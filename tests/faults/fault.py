"""What a fault is: a way to break something, for how long, and how one sees that it was broken."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal

from tests.faults.testbed import FaultTestbed

Place = Literal["worker", "RabbitMQ", "MongoDB", "wire to RabbitMQ", "wire to MongoDB"]
Injection = Callable[[FaultTestbed, random.Random], AbstractAsyncContextManager[None]]
"""Entering it breaks something, and leaving it mends that again."""
Arrangement = Callable[[FaultTestbed], AbstractAsyncContextManager[None]]
"""What has to be arranged before the load begins, and put back after its end."""


def nothing_special(_testbed: FaultTestbed) -> AbstractAsyncContextManager[None]:
    return nullcontext()


@dataclass(frozen=True)
class Fault:
    """One line of the matrix."""

    name: str
    what: str
    """What an operator would call it, in a few words."""
    place: Place
    inject: Injection
    seconds: float
    """Between the breaking and the repairing."""
    mark: str | None = None
    """What at least one worker must say of it, or it did not happen; None for what the workers
    need not notice, or what their drivers bridge without a word."""
    silence_seconds: float = 0
    """For how long no outcome must have come, or it did not happen."""
    arranged: Arrangement = nothing_special
    may_give_up: bool = False
    """Whether deliveries may fail so often that requests become dead letters ``undeliverable``."""
    loses_requests: bool = False
    """Whether it takes requests out of the broker: only their publishers still have them then."""
