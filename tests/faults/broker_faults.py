"""Faults of RabbitMQ: the node, its alarms, and what an operator's slip takes out of it."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Final

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage

from tests.acceptance.client import EVENTS, REQUESTS
from tests.faults.clients import BROKEN
from tests.faults.fault import Fault, Injection
from tests.faults.testbed import FaultTestbed
from worker.devtools.servers import EmbeddedRabbit
from worker.devtools.servers.process import poll

AWAY_SECONDS: Final = 5
BACKLOG: Final = 100
"""Beyond what the workers, while they are paused, are handed anyway."""
BACKLOG_SECONDS: Final = 30
DELETIONS: Final = 3
DELETION_PAUSE_SECONDS: Final = 1.5
MEDDLED_WITH: Final = 60
MEDDLINGS_MAX: Final = 21
"""One more than the delivery limit, so some requests are taken away by the broker itself."""

SHUT_CHANNELS: Final = """
Ours = fun(Consumer) ->
    {resource, _, queue, Name} = proplists:get_value(queue_name, Consumer),
    Name =:= <<"reservations.requests">>
end,
Consumers = lists:filter(Ours, rabbit_amqqueue:consumers_all(<<"/">>)),
[rabbit_channel:shutdown(proplists:get_value(channel_pid, Consumer)) || Consumer <- Consumers].
"""
"""Ends the channels of all workers inside the broker without a word to them: each goes on having
a connection, a channel and a consumer that exist on its own side only."""


@asynccontextmanager
async def stopped(testbed: FaultTestbed, _chance: random.Random) -> AsyncIterator[None]:
    await testbed.rabbit.stop()
    yield
    await testbed.rabbit.start()


@asynccontextmanager
async def killed(testbed: FaultTestbed, _chance: random.Random) -> AsyncIterator[None]:
    await testbed.rabbit.kill()
    yield
    await testbed.rabbit.start()


@asynccontextmanager
async def memory_alarm_of(rabbit: EmbeddedRabbit) -> AsyncIterator[None]:
    """RabbitMQ believes to be out of memory, and takes nothing from anybody."""
    await rabbit.ctl("set_vm_memory_high_watermark", "absolute", "1")
    try:
        yield
    finally:
        await rabbit.ctl("set_vm_memory_high_watermark", "0.4")


@asynccontextmanager
async def memory_alarm(testbed: FaultTestbed, _chance: random.Random) -> AsyncIterator[None]:
    """An alarm stops publishers first of all; so the workers wait until there is a backlog."""

    async def backlog() -> bool:
        return await testbed.cinema.client.depth(REQUESTS) >= BACKLOG

    for worker_slot in testbed.worker_slots:
        worker_slot.worker.signal(signal.SIGSTOP)
    async with AsyncExitStack() as alarmed:
        try:
            await poll(backlog, BACKLOG_SECONDS)
            await alarmed.enter_async_context(memory_alarm_of(testbed.rabbit))
        finally:
            for worker_slot in testbed.worker_slots:
                worker_slot.worker.signal(signal.SIGCONT)
        yield


@asynccontextmanager
async def connections_closed(testbed: FaultTestbed, _chance: random.Random) -> AsyncIterator[None]:
    await testbed.rabbit.ctl("close_all_connections", "maintenance")
    yield


@asynccontextmanager
async def channels_shut(testbed: FaultTestbed, _chance: random.Random) -> AsyncIterator[None]:
    await testbed.rabbit.ctl("eval", SHUT_CHANNELS)
    yield


@asynccontextmanager
async def operator(testbed: FaultTestbed) -> AsyncIterator[AbstractChannel]:
    async with await aio_pika.connect(testbed.rabbit.url) as connection:
        yield await connection.channel()


@asynccontextmanager
async def queue_deleted(testbed: FaultTestbed, _chance: random.Random) -> AsyncIterator[None]:
    """The workers make it again, so it is deleted again and again."""
    async with operator(testbed) as channel:
        for _ in range(DELETIONS):
            await channel.queue_delete(REQUESTS)
            await asyncio.sleep(DELETION_PAUSE_SECONDS)
    yield


def exchange_deleted(name: str) -> Injection:
    @asynccontextmanager
    async def deleted(testbed: FaultTestbed, _chance: random.Random) -> AsyncIterator[None]:
        async with operator(testbed) as channel:
            await channel.exchange_delete(name)
        yield
        # Restored by the client that declared and bound it in the first place.
        await testbed.subscriber.subscribe_again()

    return deleted


@asynccontextmanager
async def meddled_with(testbed: FaultTestbed, chance: random.Random) -> AsyncIterator[None]:
    """A consumer who goes first, and fails each request some times before the workers get it."""

    async def meddle(message: AbstractIncomingMessage) -> None:
        failures = int(str(message.headers.get("x-delivery-count", 0)))
        wanted = meddlings.setdefault(message.body, chance.randint(1, MEDDLINGS_MAX))
        if failures < wanted:
            with suppress(*BROKEN):
                await message.reject(requeue=True)
        # Else it is held until the end, which is one more failure.

    meddlings: dict[bytes, int] = {}
    async with operator(testbed) as channel:
        await channel.set_qos(prefetch_count=MEDDLED_WITH)
        queue = await channel.get_queue(REQUESTS)
        await queue.consume(meddle, arguments={"x-priority": 10})
        yield


FAULTS: Final = (
    Fault(
        "broker-stopped", "RabbitMQ is stopped and started", "RabbitMQ", stopped, AWAY_SECONDS,
        mark="session ends",
    ),
    Fault(
        "broker-killed", "RabbitMQ gets SIGKILL and is started", "RabbitMQ", killed, AWAY_SECONDS,
        mark="session ends",
    ),
    Fault(
        "memory-alarm", "RabbitMQ's memory alarm goes on and off", "RabbitMQ", memory_alarm, 20,
        mark="are not confirmed",
    ),
    Fault(
        "connections-closed", "RabbitMQ closes all connections", "RabbitMQ", connections_closed, 1,
        mark="session ends",
    ),
    Fault(
        "channels-shut", "all workers' channels end silently inside RabbitMQ", "RabbitMQ",
        channels_shut, 1, mark="session ends",
    ),
    Fault(
        "queue-deleted", "the request queue is deleted, three times in a row", "RabbitMQ",
        queue_deleted, 1, mark="session ends", loses_requests=True,
    ),
    Fault(
        "events-deleted", "the exchange of events is deleted and restored", "RabbitMQ",
        exchange_deleted(EVENTS), 3, mark="session ends",
    ),
    Fault(
        "requests-deleted", "the exchange of requests is deleted and restored", "RabbitMQ",
        exchange_deleted(REQUESTS), 3,
    ),
    Fault(
        "delivery-limit", "another consumer fails requests up to the delivery limit", "RabbitMQ",
        meddled_with, 5, may_give_up=True,
    ),
)  # fmt: skip
