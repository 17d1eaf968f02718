"""What all parts of a simulated world share: randomness, time, fault rates and the journal.

All randomness comes from here, so a seed determines a whole run. Knows neither workers nor servers.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping
from contextvars import Context
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, TypeVarTuple

from tests.simulation.evidence import Fact
from tests.simulation.loop import SimulatedLoop
from tests.simulation.trace import described

CLOCK_START: Final = datetime(2026, 11, 22, 18, 0, tzinfo=UTC)
"""The time on every clock when a world begins."""

QUICK_SECONDS: Final = 0.004
"""The longest that most messages are in flight."""
SLOW_SECONDS: Final = 0.2
SLOW_SHARE: Final = 0.03

Tracer = Callable[[float, str, str], None]
"""Called with the time in seconds, who did something, and what it was."""

Ts = TypeVarTuple("Ts")


@dataclass(slots=True)
class FaultRates:
    """How likely each fault of a message is at the moment, from 0 (the default) to 1."""

    command_lost: float = 0.0
    reply_lost: float = 0.0
    command_late: float = 0.0
    stale_read: float = 0.0
    publish_refused: float = 0.0
    confirm_late: float = 0.0


class World:
    """One world, made from a seed; a tracer is called with each of its steps."""

    def __init__(self, seed: int, trace: Tracer | None = None) -> None:
        self.chance = random.Random(seed)
        self.loop = SimulatedLoop(self.chance.random)  # type: ignore[abstract]  # Has all that asyncio needs.
        self.fault_rates = FaultRates()
        self.journal: list[Fact] = []
        self.incidents: Counter[str] = Counter()
        self.poison: Mapping[str, str] = {}
        """From when on a request kills any worker that handles it, by request id."""
        self.is_traced = trace is not None
        self._trace = trace
        self.outside = Context()

    @property
    def now_seconds(self) -> float:
        """Seconds since the world began."""
        return self.loop.time()

    def clock(self) -> datetime:
        """The time on the workers' clocks."""
        return CLOCK_START + timedelta(seconds=self.loop.time())

    def record(self, fact: Fact) -> None:
        """Add a fact to the journal."""
        self.journal.append(fact)
        if self.is_traced:
            self.trace(*described(fact))

    def trace(self, who: str, what: str) -> None:
        """Report a step to the tracer, if there is one."""
        if self._trace is not None:
            self._trace(self.loop.time(), who, what)

    def incident(self, kind: str, who: str = "") -> None:
        """Count something that went wrong; ``who`` says where, if that matters."""
        self.incidents[kind] += 1
        if self.is_traced:
            self.trace("!", f"{kind} {who}")

    def comes(self, likelihood: float) -> bool:
        """Draw whether something of this likelihood happens now."""
        return likelihood > 0 and self.chance.random() < likelihood

    def latency_seconds(self) -> float:
        """Draw how long the next message is in flight."""
        chance = self.chance.random()
        if chance < SLOW_SHARE:
            return SLOW_SECONDS * self.chance.random()
        return QUICK_SECONDS * chance

    def after(
        self, delay_seconds: float, callback: Callable[[*Ts], object], *arguments: *Ts
    ) -> None:
        """Run something that belongs to no worker, so is neither paused nor killed with one."""
        self.loop.call_later(delay_seconds, callback, *arguments, context=self.outside)
