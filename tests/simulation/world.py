"""What all parts of a simulated world share: its chance, its time, its weather and its diary.

Everything random comes from here, so a seed is a whole story. Knows neither workers nor servers.
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
"""What every clock shows when a world begins."""

QUICK_SECONDS: Final = 0.004
"""Most messages take up to so long on their way."""
SLOW_SECONDS: Final = 0.2
SLOW_SHARE: Final = 0.03

Tracer = Callable[[float, str, str], None]
"""Called with the time in seconds, who did something, and what it was."""

Ts = TypeVarTuple("Ts")


@dataclass(slots=True)
class FaultRates:
    """How likely each mishap is at the moment, from 0 to 1; calm unless a world says otherwise."""

    command_lost: float = 0.0
    reply_lost: float = 0.0
    command_late: float = 0.0
    stale_read: float = 0.0
    publish_refused: float = 0.0
    confirm_late: float = 0.0


class World:
    """One world: made from a seed, and told step by step to whoever wants to hear it."""

    def __init__(self, seed: int, trace: Tracer | None = None) -> None:
        self.chance = random.Random(seed)
        self.loop = SimulatedLoop(self.chance.random)  # type: ignore[abstract]  # All that is needed.
        self.fault_rates = FaultRates()
        self.journal: list[Fact] = []
        self.incidents: Counter[str] = Counter()
        self.poison: Mapping[str, str] = {}
        """From when on a request kills whoever handles it, by its id."""
        self.is_traced = trace is not None
        self._trace = trace
        self.outside = Context()

    @property
    def now_seconds(self) -> float:
        """Since the world began."""
        return self.loop.time()

    def clock(self) -> datetime:
        """What the workers take for the time."""
        return CLOCK_START + timedelta(seconds=self.loop.time())

    def record(self, fact: Fact) -> None:
        """Write down what can be seen from outside."""
        self.journal.append(fact)
        if self.is_traced:
            self.trace(*described(fact))

    def trace(self, who: str, what: str) -> None:
        """Tell a step of the story."""
        if self._trace is not None:
            self._trace(self.loop.time(), who, what)

    def incident(self, kind: str, who: str = "") -> None:
        """Count something that went wrong, anywhere or with somebody."""
        self.incidents[kind] += 1
        if self.is_traced:
            self.trace("!", f"{kind} {who}")

    def comes(self, likelihood: float) -> bool:
        """Whether something of this likelihood happens now."""
        return likelihood > 0 and self.chance.random() < likelihood

    def latency_seconds(self) -> float:
        """How long the next message is on its way."""
        chance = self.chance.random()
        if chance < SLOW_SHARE:
            return SLOW_SECONDS * self.chance.random()
        return QUICK_SECONDS * chance

    def after(
        self, delay_seconds: float, callback: Callable[[*Ts], object], *arguments: *Ts
    ) -> None:
        """Run something that belongs to no worker, and so is neither paused nor killed with one."""
        self.loop.call_later(delay_seconds, callback, *arguments, context=self.outside)
