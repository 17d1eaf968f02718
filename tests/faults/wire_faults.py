"""Faults of the wires between workers and servers: cut, blackholed, slow, torn inside a frame."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Final

from tests.faults.fault import Arrangement, Fault, Place, nothing_special
from tests.faults.proxy import Proxy
from tests.faults.testbed import FaultTestbed

Wires = Callable[[FaultTestbed], list[Proxy]]
Harm = Callable[[list[Proxy], random.Random], AbstractAsyncContextManager[None]]

CUT_SECONDS: Final = 6
BLACKHOLE_SECONDS: Final = 25
"""Longer than two heartbeats, after which RabbitMQ gives up a client, and shorter than the three
after which the client library gives up RabbitMQ."""
DELAY_SECONDS: Final = 0.3
SLOW_SECONDS: Final = 10
TEARING_SECONDS: Final = 8


@asynccontextmanager
async def cut(wires: list[Proxy], _chance: random.Random) -> AsyncIterator[None]:
    """Every connection is reset, and none is accepted."""
    for wire in wires:
        wire.refuse()
        wire.cut()
    yield
    for wire in wires:
        await wire.accept()


@asynccontextmanager
async def blackholed(wires: list[Proxy], _chance: random.Random) -> AsyncIterator[None]:
    """Nothing passes; then everything that was sent arrives, late."""
    for wire in wires:
        wire.blackhole()
    yield
    for wire in wires:
        wire.restore()


@asynccontextmanager
async def abandoned(wires: list[Proxy], _chance: random.Random) -> AsyncIterator[None]:
    """Nothing passes; then new connections work, and the old ones are never heard of again."""
    for wire in wires:
        wire.blackhole()
    yield
    for wire in wires:
        wire.restore(old_connections=False)


@asynccontextmanager
async def slow(wires: list[Proxy], _chance: random.Random) -> AsyncIterator[None]:
    for wire in wires:
        wire.delay_seconds = DELAY_SECONDS
    yield
    for wire in wires:
        wire.delay_seconds = 0


@asynccontextmanager
async def torn(wires: list[Proxy], chance: random.Random) -> AsyncIterator[None]:
    """Every connection ends in the middle of a frame, and so do those that follow."""
    for wire in wires:
        wire.tear(chance)
    yield
    for wire in wires:
        wire.tear(None)


@asynccontextmanager
async def wired_store(testbed: FaultTestbed) -> AsyncIterator[None]:
    """The workers reach MongoDB's primary through the proxy, whichever member that is.

    Otherwise they would learn the members' own addresses from the first member they ask.
    """
    testbed.store_is_wired = True
    await testbed.replace_workers()
    yield
    testbed.store_is_wired = False
    await testbed.replace_workers()


def to_rabbitmq(testbed: FaultTestbed) -> list[Proxy]:
    return [worker_slot.wire for worker_slot in testbed.worker_slots]


def to_mongodb(testbed: FaultTestbed) -> list[Proxy]:
    return [testbed.store_wire]


@dataclass(frozen=True)
class Damage:
    """What can be done to any wire."""

    name: str
    what: str
    harm: Harm
    seconds: float
    silence_seconds: float


DAMAGES: Final = (
    Damage("cut", "is cut and refused", cut, CUT_SECONDS, CUT_SECONDS - 1),
    Damage("blackholed", "is blackholed, then works again", blackholed, BLACKHOLE_SECONDS, 20),
    Damage("abandoned", "is blackholed, then only new ones work", abandoned, BLACKHOLE_SECONDS, 20),
    Damage("delayed", f"takes {DELAY_SECONDS:g} s longer each way", slow, SLOW_SECONDS, 0.3),
    Damage("torn", "is cut in the middle of a frame, again and again", torn, TEARING_SECONDS, 0.3),
)


def _faults(
    prefix: str, server: str, place: Place, wires: Wires, arranged: Arrangement
) -> Iterator[Fault]:
    for damage in DAMAGES:

        def inject(
            testbed: FaultTestbed, chance: random.Random, harm: Harm = damage.harm
        ) -> AbstractAsyncContextManager[None]:
            return harm(wires(testbed), chance)

        yield Fault(
            f"{prefix}-{damage.name}",
            f"the connection to {server} {damage.what}",
            place,
            inject,
            damage.seconds,
            silence_seconds=damage.silence_seconds,
            arranged=arranged,
        )


FAULTS: Final = (
    *_faults("broker-wire", "RabbitMQ", "wire to RabbitMQ", to_rabbitmq, nothing_special),
    *_faults("store-wire", "MongoDB", "wire to MongoDB", to_mongodb, wired_store),
)
