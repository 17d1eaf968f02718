"""How a worker starts, stops, and says with its exit code why it ended."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.acceptance.cinema import Cinema, request_for, slots
from tests.acceptance.client import REQUESTS, wipe
from tests.acceptance.processes import WorkerProcess


async def ended(worker: WorkerProcess, code: int) -> str:
    """The last line of a worker that ended by itself."""
    assert await worker.exit_code() == code, worker.log
    assert "Traceback" not in worker.log
    return worker.lines[-1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_an_idle_worker_stops_cleanly_when_it_is_asked_to(
    cinema: Cinema, number: signal.Signals
) -> None:
    worker = await cinema.start_worker()
    worker.signal(number)
    assert "stopped" in await ended(worker, 0)


async def test_bad_settings_end_the_start_with_code_2_and_one_line(cinema: Cinema) -> None:
    worker = await cinema.launch(BATCH_SIZE="0", AMQP_URL="http://guest:hunter2@broker/")
    line = await ended(worker, 2)
    assert worker.lines == [line]
    assert "RESERVATION_BATCH_SIZE is '0'" in line
    assert "RESERVATION_AMQP_URL" in line
    assert "hunter2" not in line


async def test_a_broker_that_is_not_there_ends_the_start_with_code_3(cinema: Cinema) -> None:
    worker = await cinema.launch(AMQP_URL="amqp://guest:hunter2@127.0.0.1:1/")
    assert "127.0.0.1:1" in await ended(worker, 3)
    assert "hunter2" not in worker.log


async def test_a_database_that_is_not_there_ends_the_start_with_code_4(cinema: Cinema) -> None:
    uri = "mongodb://u:hunter2@127.0.0.1:1/?timeoutMS=200"
    worker = await cinema.launch(MONGODB_URI=uri)
    assert "127.0.0.1:1" in await ended(worker, 4)
    assert "hunter2" not in worker.log


async def test_another_topology_ends_with_code_5_and_is_left_alone(
    cinema: Cinema,
) -> None:
    await wipe(cinema.amqp_url)
    channel = await cinema.client.connection.channel()
    await channel.declare_queue(REQUESTS, durable=True)
    worker = await cinema.launch()
    assert REQUESTS in await ended(worker, 5)
    await channel.declare_queue(REQUESTS, durable=True)
    await wipe(cinema.amqp_url)


@asynccontextmanager
async def held(cinema: Cinema, movie: str) -> AsyncIterator[None]:
    """The movie in another open transaction, so that no booking of it can be committed."""
    async with cinema.database.client.start_session() as session:
        await session.start_transaction()
        await cinema.database.movies.update_one({"_id": movie}, {"$set": {"x": 1}}, session=session)
        yield
        await session.abort_transaction()


async def test_a_stop_past_the_drain_time_ends_with_code_6(
    cinema: Cinema,
) -> None:
    movie = await cinema.show(*slots(10))
    request = request_for(movie)
    worker = await cinema.start_worker(DRAIN_SECONDS="0.3")
    async with held(cinema, movie):
        await cinema.client.publish(request)
        await worker.logged("Conflict")
        worker.signal()
        assert "longer than 0.3 s" in await ended(worker, 6)
    await cinema.start_worker()
    assert (await cinema.client.outcome(request["requestId"]))["outcome"] == "confirmed"


async def test_a_second_signal_ends_a_stop_at_once_with_code_6(
    cinema: Cinema,
) -> None:
    movie = await cinema.show(*slots(10))
    request = request_for(movie)
    worker = await cinema.start_worker()
    async with held(cinema, movie):
        await cinema.client.publish(request)
        await worker.logged("Conflict")
        worker.signal()
        await worker.logged("stopping")
        await worker.logged("Conflict", times=4)
        worker.signal()
        assert "second signal" in await ended(worker, 6)
    await cinema.start_worker()
    assert (await cinema.client.outcome(request["requestId"]))["outcome"] == "confirmed"


async def test_a_stop_in_the_middle_of_the_work_repeats_nothing(
    cinema: Cinema,
) -> None:
    movie = await cinema.show(*slots(10_000))
    requests = [request_for(movie) for _ in range(3000)]
    await cinema.client.publish_all(requests)
    first = await cinema.start_worker(BATCH_SIZE="50")
    await cinema.client.events_of(100)
    assert await first.stop() == 0
    left = await cinema.client.depth(REQUESTS)
    assert 0 < left < 3000
    await cinema.start_worker()
    await cinema.client.outcomes([request["requestId"] for request in requests])
    await cinema.stop_workers()
    assert await cinema.client.depth(REQUESTS) == 0
    assert {len(events) for events in cinema.client.events.values()} == {1}
    assert cinema.client.received_dead_letters == []


async def test_a_worker_keeps_to_its_prefetch(
    cinema: Cinema,
) -> None:
    movie = await cinema.show(*slots(10))
    requests = [request_for(movie) for _ in range(10)]
    workers = [
        await cinema.start_worker(BATCH_SIZE="1", PREFETCH="2"),
        await cinema.start_worker(BATCH_SIZE="4", PREFETCH="4"),
    ]
    for _ in workers:  # In turn, and with its first request a worker takes no second.
        first = request_for("no-such-movie")
        await cinema.client.publish(first)
        await cinema.client.outcome(first["requestId"])
    async with held(cinema, movie):
        await cinema.client.publish_all(requests)
        await asyncio.gather(*(worker.logged("Conflict") for worker in workers))
        assert await cinema.client.depth(REQUESTS) == 4
    await cinema.client.outcomes([request["requestId"] for request in requests])


async def test_a_worker_that_lost_its_queue_is_back_at_work(cinema: Cinema) -> None:
    worker = await cinema.start_worker()
    await cinema.client.channel.queue_delete(REQUESTS)
    await worker.logged("back at work")
    request = request_for("no-such-movie")
    await cinema.client.publish(request)
    assert (await cinema.client.outcome(request["requestId"]))["reason"] == "unknown_movie"


async def test_every_line_of_the_log_is_json_with_time_and_level(
    cinema: Cinema,
) -> None:
    worker = await cinema.start_worker()
    assert await worker.stop() == 0
    assert len(worker.messages) == len(worker.lines) >= 3
    for line in worker.messages:
        assert line.keys() >= {"time", "level", "logger", "message"}
