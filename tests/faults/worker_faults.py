"""Faults of the workers themselves: killed, and paused for longer than the broker waits."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from tests.faults.fault import Fault
from tests.faults.testbed import FaultTestbed

CONSUMER_TIMEOUT_SECONDS: Final = 5
USUAL_CONSUMER_TIMEOUT_SECONDS: Final = 1800
USUAL_TICK_SECONDS: Final = 60


@asynccontextmanager
async def one_killed(testbed: FaultTestbed, chance: random.Random) -> AsyncIterator[None]:
    worker_slot = chance.choice(testbed.worker_slots)
    await worker_slot.worker.kill()
    yield
    await testbed.start_worker_in(worker_slot)


@asynccontextmanager
async def all_killed(testbed: FaultTestbed, _chance: random.Random) -> AsyncIterator[None]:
    await asyncio.gather(*(worker_slot.worker.kill() for worker_slot in testbed.worker_slots))
    yield
    for worker_slot in testbed.worker_slots:
        await testbed.start_worker_in(worker_slot)


@asynccontextmanager
async def one_paused(testbed: FaultTestbed, chance: random.Random) -> AsyncIterator[None]:
    worker = chance.choice(testbed.worker_slots).worker
    worker.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        worker.signal(signal.SIGCONT)


@asynccontextmanager
async def impatient_broker(testbed: FaultTestbed) -> AsyncIterator[None]:
    """A broker that gives up a consumer after seconds instead of half an hour."""
    await _be_patient_for(testbed, CONSUMER_TIMEOUT_SECONDS, tick_seconds=1)
    yield
    await _be_patient_for(testbed, USUAL_CONSUMER_TIMEOUT_SECONDS, USUAL_TICK_SECONDS)


async def _be_patient_for(testbed: FaultTestbed, seconds: int, tick_seconds: int) -> None:
    """Channels keep the time that they were opened with, so everybody opens new ones."""
    await testbed.rabbit.ctl(
        "eval",
        f"application:set_env(rabbit, consumer_timeout, {seconds * 1000}), "
        f"application:set_env(rabbit, channel_tick_interval, {tick_seconds * 1000}).",
    )
    await testbed.replace_workers()


FAULTS: Final = (
    Fault("worker-killed", "a worker gets SIGKILL", "worker", one_killed, 3),
    Fault("workers-killed", "all workers get SIGKILL at once", "worker", all_killed, 3),
    Fault(
        "worker-paused",
        "a worker gets SIGSTOP, for longer than the consumer timeout, then SIGCONT",
        "worker",
        one_paused,
        12,
        mark="PRECONDITION_FAILED",
        arranged=impatient_broker,
    ),
)
