"""A server that takes nothing: the worker holds its share, takes no more, and loses nothing."""

from __future__ import annotations

import re
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import pytest

from tests.acceptance.cinema import Cinema, request_for, slots
from tests.acceptance.client import REQUESTS
from tests.acceptance.processes import WorkerProcess
from tests.conftest import Servers
from tests.faults.broker_faults import memory_alarm_of
from tests.faults.proxy import Proxy
from worker.devtools.servers.process import poll

PREFETCH: Final = 20
REQUESTS_IN_ALL: Final = 1000
DEADLINE_SECONDS: Final = 30
GROWTH_KIB_MAX: Final = 8 * 1024
"""The batches that are under way, with their events, are far less than that."""
IMPATIENT: Final = """
import sys
import worker.broker.publisher
import worker.service.contention
from worker.cli import main

worker.broker.publisher.SLOW_CONFIRM_SECONDS = 1
worker.service.contention.OUTAGE_SECONDS = 2
sys.exit(main(sys.argv[1:]))
"""
"""The worker, but what it waits minutes for, far below the consumer timeout, takes seconds."""


@pytest.fixture
async def wire(servers: Servers) -> AsyncIterator[Proxy]:
    """A way to MongoDB that can be cut."""

    async def port() -> int:
        return urlsplit(servers.mongodb_uri).port or 27017

    async with Proxy(port).opened() as proxy:
        yield proxy


async def start_impatient(cinema: Cinema, **settings: str) -> WorkerProcess:
    """A worker with a small prefetch, past its slow start."""
    own = {
        "AMQP_URL": cinema.amqp_url,
        "MONGODB_URI": cinema.mongodb_uri,
        "MONGODB_DATABASE": cinema.database.name,
        "BATCH_SIZE": "5",
        "PREFETCH": str(PREFETCH),
    }
    worker = await WorkerProcess.start({**own, **settings}, program=("-c", IMPATIENT))
    cinema.workers.append(worker)
    first = request_for("no-such-movie")
    await cinema.client.publish(first)
    await cinema.client.outcome(first["requestId"])
    return worker


async def until_waiting(cinema: Cinema, number: int) -> None:
    """Until so many requests wait in the queue, which nobody holds."""

    async def waiting() -> bool:
        return await cinema.client.depth(REQUESTS) == number

    await poll(waiting, DEADLINE_SECONDS)


async def ids_of(cinema: Cinema, number: int) -> list[str]:
    movie = await cinema.show(*slots(10 * number))
    requests = [request_for(movie) for _ in range(number)]
    await cinema.client.publish_all(requests)
    return [request["requestId"] for request in requests]


def memory_kib(worker: WorkerProcess) -> int:
    status = Path(f"/proc/{worker.process.pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found
    return int(found[1])


async def test_without_mongodb_a_worker_hands_its_prefetch_back(
    cinema: Cinema, wire: Proxy
) -> None:
    uri = f"mongodb://127.0.0.1:{wire.port}/?directConnection=true&timeoutMS=500"
    worker = await start_impatient(cinema, MONGODB_URI=uri)
    wire.refuse()
    wire.cut()
    names = await ids_of(cinema, 100)
    await until_waiting(cinema, 100 - PREFETCH)
    await worker.logged("trying again")
    await until_waiting(cinema, 100)
    await worker.logged("MongoDB cannot be reached", times=3)
    declared = await cinema.client.channel.declare_queue(REQUESTS, passive=True)
    assert declared.declaration_result.consumer_count == 0
    assert declared.declaration_result.message_count == 100
    await wire.accept()
    await cinema.client.outcomes(names)
    assert cinema.client.received_dead_letters == []


async def test_with_publishers_blocked_a_worker_keeps_to_its_prefetch(
    cinema: Cinema, servers: Servers
) -> None:
    if servers.embedded is None:
        pytest.skip("the broker is not ours to alarm")
    worker = await start_impatient(cinema)
    worker.signal(signal.SIGSTOP)
    names = await ids_of(cinema, REQUESTS_IN_ALL)
    before_kib = memory_kib(worker)
    async with memory_alarm_of(servers.embedded.rabbit):
        worker.signal(signal.SIGCONT)
        await worker.logged("blocking publishers")
        assert await cinema.client.depth(REQUESTS) >= REQUESTS_IN_ALL - PREFETCH
        assert len(await cinema.ledger(names)) <= PREFETCH
        assert memory_kib(worker) - before_kib < GROWTH_KIB_MAX
    await cinema.client.outcomes(names)
    assert cinema.client.received_dead_letters == []
