"""The contestants as processes: ``python -m tests.benchmarks.contestants NAME``.

Each consumes requests and publishes the same persistent, confirmed event, with the same properties
and headers, and runs on uvloop. Each prints ``ready`` when it consumes requests, and ``N commits, M
conflicts`` after SIGTERM has stopped it, as the worker does.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

import aio_pika
import uvloop
from aio_pika.abc import AbstractIncomingMessage

from contracts import OutcomeEvent, topology
from tests.benchmarks.events import outcome, published
from worker.broker.messages import Delivery
from worker.broker.session import Session
from worker.service.announcement import announcement
from worker.settings import Settings, load_settings

ECHO_PREFETCH: Final = 500
"""Requests that the ordinary consumer has in flight at once, each in its own task."""
SKETCH_PREFETCH: Final = 50
"""Requests that the sketch has in flight at once; motor gets as many threads."""
DRAIN_SECONDS: Final = 20

Document = dict[str, Any]
Answer = Callable[[Document], Awaitable[Document]]


async def echo(settings: Settings, stop: asyncio.Event) -> None:
    """The ordinary consumer of aio-pika: a task, a publish and an ack for each message."""

    async def confirm(request: Document) -> Document:
        now = datetime.now(UTC)
        return outcome(request, None, movie_version=1, seats_available=1, decided_at=now)

    await consume(settings, stop, confirm, ECHO_PREFETCH)
    print("0 commits, 0 conflicts", flush=True)


async def sketch(settings: Settings, stop: asyncio.Event) -> None:
    """The sketch from the design with its defects fixed: a few round trips per request."""
    # Motor reads this when it is imported; its default is five threads per processor.
    os.environ["MOTOR_MAX_WORKERS"] = str(SKETCH_PREFETCH)
    from tests.benchmarks.sketch import Sketch

    reservations = Sketch(settings.mongodb_uri, settings.mongodb_database)
    await consume(settings, stop, reservations.reserve, SKETCH_PREFETCH)
    print(f"{reservations.commits} commits, {reservations.conflicts} conflicts", flush=True)


async def consume(settings: Settings, stop: asyncio.Event, answer: Answer, prefetch: int) -> None:
    """Consume as aio-pika's manual does, with one connection for each direction."""
    under_way: set[AbstractIncomingMessage] = set()
    idle = asyncio.Event()
    idle.set()
    async with (
        await aio_pika.connect(settings.amqp_url) as consuming,
        await aio_pika.connect(settings.amqp_url) as publishing,
    ):
        exchange = await (await publishing.channel()).get_exchange(topology.EVENTS)

        async def handle(message: AbstractIncomingMessage) -> None:
            under_way.add(message)
            idle.clear()
            event = await answer(json.loads(message.body))
            routing_key = topology.event_routing_key(event["outcome"], event["movieId"])
            await exchange.publish(published(event, message.correlation_id), routing_key)
            await message.ack()
            under_way.discard(message)
            if not under_way:
                idle.set()

        channel = await consuming.channel()
        await channel.set_qos(prefetch)
        queue = await channel.get_queue(topology.REQUESTS)
        consumer_tag = await queue.consume(handle)
        print("ready", flush=True)
        await stop.wait()
        await queue.cancel(consumer_tag)
        async with asyncio.timeout(DRAIN_SECONDS):
            await idle.wait()


async def batched_echo(settings: Settings, stop: asyncio.Event) -> None:
    """What the worker could reach if deciding cost nothing: its own session, but no database.

    One batch is announced while the next one is collected, as in the worker's pipeline.
    """
    session = await Session.open(settings.amqp_url, settings.prefetch_count)
    event = OutcomeEvent(
        request_id="00000000-0000-4000-8000-000000000000",
        movie_id="movie-000000",
        time_slot_id=1,
        number_of_people=2,
        outcome="confirmed",
        movie_version=1,
        seats_available=1,
        decided_at=datetime.now(UTC),
    )
    (message,) = announcement(Delivery(tag=0, body=b""), event)

    async def announce(batch: list[Delivery]) -> None:
        messages = [replace(message, correlation_id=one.correlation_id or "") for one in batch]
        assert all(await session.publisher.publish(messages))
        await session.consumer.settle(batch, [])

    async def work() -> None:
        announcing = asyncio.create_task(asyncio.sleep(0))
        while batch := await session.consumer.collect(settings.batch_size):
            await announcing
            announcing = asyncio.create_task(announce(batch))
        await announcing

    working = asyncio.create_task(work())
    print("ready", flush=True)
    await stop.wait()
    await session.consumer.stop()
    await working
    await session.consumer.hand_back()
    await session.close()
    print("0 commits, 0 conflicts", flush=True)


CONTESTANTS: Final = {"echo": echo, "sketch": sketch, "batched echo": batched_echo}


async def main(name: str) -> None:
    """Run one contestant until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await CONTESTANTS[name](load_settings(), stop)


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1]))
