"""Faults of MongoDB: its members, its elections, and a disk that is full."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

from pymongo.errors import PyMongoError

from tests.faults.fault import Fault
from tests.faults.testbed import FaultTestbed
from worker.devtools.servers.mongo import MongoMember
from worker.devtools.servers.process import poll

OUT_OF_DISK_SPACE: Final = 14031
WORKERS_CALL_THEMSELVES: Final = "reservation-worker"
STEP_DOWN_SECONDS: Final = 10
ELECTION_SECONDS: Final = 30


async def primary_of(testbed: FaultTestbed) -> MongoMember:
    async def elected() -> bool:
        return await testbed.mongo.primary() is not None

    await poll(elected, ELECTION_SECONDS)
    index = await testbed.mongo.primary()
    assert index is not None
    return testbed.mongo.members[index]


async def secondaries_of(testbed: FaultTestbed) -> list[MongoMember]:
    primary = await primary_of(testbed)
    return [member for member in testbed.mongo.members if member is not primary]


@asynccontextmanager
async def stepped_down(testbed: FaultTestbed, _chance: random.Random) -> AsyncIterator[None]:
    primary = await primary_of(testbed)
    async with primary.admin() as admin:
        with suppress(PyMongoError):  # It may close the connection with the answer.
            await admin.command("replSetStepDown", STEP_DOWN_SECONDS)
    yield


@asynccontextmanager
async def away(*members: MongoMember) -> AsyncIterator[None]:
    for member in members:
        await member.kill()
    yield
    await asyncio.gather(*(member.start() for member in members))


@asynccontextmanager
async def primary_killed(testbed: FaultTestbed, _chance: random.Random) -> AsyncIterator[None]:
    async with away(await primary_of(testbed)):
        yield


@asynccontextmanager
async def secondary_killed(testbed: FaultTestbed, chance: random.Random) -> AsyncIterator[None]:
    async with away(chance.choice(await secondaries_of(testbed))):
        yield


@asynccontextmanager
async def majority_killed(testbed: FaultTestbed, _chance: random.Random) -> AsyncIterator[None]:
    async with away(*await secondaries_of(testbed)):
        yield


@asynccontextmanager
async def stopped(testbed: FaultTestbed, _chance: random.Random) -> AsyncIterator[None]:
    await testbed.mongo.stop()
    yield
    await testbed.mongo.start()


@asynccontextmanager
async def primary_paused(testbed: FaultTestbed, _chance: random.Random) -> AsyncIterator[None]:
    pid = (await primary_of(testbed)).pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@asynccontextmanager
async def disk_full(testbed: FaultTestbed, _chance: random.Random) -> AsyncIterator[None]:
    """Every write of a worker fails, on any primary, and every read succeeds."""
    failing = {
        "failCommands": ["insert", "update", "commitTransaction"],
        "errorCode": OUT_OF_DISK_SPACE,
        "appName": WORKERS_CALL_THEMSELVES,
    }
    await _fail(testbed, {"mode": "alwaysOn", "data": failing})
    try:
        yield
    finally:
        await _fail(testbed, {"mode": "off"})


async def _fail(testbed: FaultTestbed, how: dict[str, object]) -> None:
    command = {"configureFailPoint": "failCommand", **how}
    for member in testbed.mongo.members:
        async with member.admin() as admin:
            await admin.command(command)


FAULTS: Final = (
    Fault("primary-steps-down", "MongoDB's primary steps down", "MongoDB", stepped_down, 5),
    Fault(
        "primary-killed", "MongoDB's primary gets SIGKILL and is started", "MongoDB",
        primary_killed, 10, silence_seconds=1,
    ),
    Fault(
        "primary-paused", "MongoDB's primary gets SIGSTOP, then SIGCONT", "MongoDB",
        primary_paused, 20, silence_seconds=1,
    ),
    Fault(
        "secondary-killed", "a MongoDB secondary gets SIGKILL and is started", "MongoDB",
        secondary_killed, 10,
    ),
    Fault(
        "majority-killed", "two of MongoDB's three members get SIGKILL and are started",
        "MongoDB", majority_killed, 15, silence_seconds=10,
    ),
    Fault(
        "mongodb-stopped", "all of MongoDB is stopped and started", "MongoDB", stopped, 15,
        mark="MongoDB", silence_seconds=10,
    ),
    Fault(
        "disk-full", "MongoDB answers every write with OutOfDiskSpace", "MongoDB", disk_full, 10,
        mark=str(OUT_OF_DISK_SPACE), silence_seconds=8,
    ),
)  # fmt: skip
