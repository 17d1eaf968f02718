"""All faults there are, and combinations of them drawn by a seed."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from tests.faults import broker_faults, store_faults, wire_faults, worker_faults
from tests.faults.fault import Fault, Place
from tests.faults.testbed import FaultTestbed

FAULTS: Final = (
    *worker_faults.FAULTS,
    *broker_faults.FAULTS,
    *store_faults.FAULTS,
    *wire_faults.FAULTS,
)
BY_NAME: Final = {fault.name: fault for fault in FAULTS}
PARTS: Final = (2, 3)
AND: Final = " + "
STAGGER_SECONDS: Final = 2


def named(name: str) -> Fault:
    """The fault of this name, or the combination of those with `` + `` between their names.

    Raises KeyError.
    """
    parts = [BY_NAME[part] for part in name.split(AND)]
    return parts[0] if len(parts) == 1 else _combined(parts)


def combinations(number: int, chance: random.Random) -> list[Fault]:
    """So many combinations, each of two or three faults at different places."""
    return [_combined(_drawn(chance)) for _ in range(number)]


def _drawn(chance: random.Random) -> list[Fault]:
    places: list[Place] = sorted({fault.place for fault in FAULTS})
    chosen = chance.sample(places, chance.choice(PARTS))
    return [chance.choice([f for f in FAULTS if f.place == place]) for place in chosen]


def _combined(parts: Sequence[Fault]) -> Fault:
    @asynccontextmanager
    async def inject(testbed: FaultTestbed, chance: random.Random) -> AsyncIterator[None]:
        async with AsyncExitStack() as broken:
            for part in parts:
                await broken.enter_async_context(part.inject(testbed, chance))
                await asyncio.sleep(chance.uniform(0, STAGGER_SECONDS))
            yield

    @asynccontextmanager
    async def arranged(testbed: FaultTestbed) -> AsyncIterator[None]:
        async with AsyncExitStack() as arranged:
            for part in parts:
                await arranged.enter_async_context(part.arranged(testbed))
            yield

    names = [part.name for part in parts]
    return Fault(
        AND.join(names),
        AND.join(part.what for part in parts),
        parts[0].place,
        inject,
        max(part.seconds for part in parts),
        arranged=arranged,
        may_give_up=any(part.may_give_up for part in parts),
        loses_requests=any(part.loses_requests for part in parts),
    )
