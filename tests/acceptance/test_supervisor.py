"""``run --processes``: several workers kept running, and stopped together."""

from __future__ import annotations

import os
import signal
from typing import Final

from tests.acceptance.cinema import Cinema, request_for, slots
from tests.acceptance.processes import READY, WorkerProcess

PROCESSES: Final = 2


async def supervised(cinema: Cinema, **settings: str) -> WorkerProcess:
    own = {
        "AMQP_URL": cinema.amqp_url,
        "MONGODB_URI": cinema.mongodb_uri,
        "MONGODB_DATABASE": cinema.database.name,
    }
    supervisor = await WorkerProcess.start({**own, **settings}, "--processes", str(PROCESSES))
    cinema.workers.append(supervisor)
    return supervisor


def processes(supervisor: WorkerProcess) -> set[int]:
    """The processes that have said they are ready."""
    return {line["process"] for line in supervisor.messages if line["message"].startswith(READY)}


async def test_all_processes_consume_and_one_signal_drains_them_all(cinema: Cinema) -> None:
    supervisor = await supervised(cinema)
    await supervisor.logged(READY, PROCESSES)
    movie = await cinema.show(*slots(1000))
    requests = [request_for(movie) for _ in range(200)]
    await cinema.client.publish_all(requests)
    await cinema.client.outcomes([request["requestId"] for request in requests])
    assert await supervisor.stop() == 0
    assert supervisor.log.count('"message": "stopped') == PROCESSES


async def test_a_process_that_is_killed_is_replaced(cinema: Cinema) -> None:
    supervisor = await supervised(cinema)
    await supervisor.logged(READY, PROCESSES)
    os.kill(min(processes(supervisor)), signal.SIGKILL)
    await supervisor.logged(READY, PROCESSES + 1)
    assert "ended with -9, starting another" in supervisor.log
    assert len(processes(supervisor)) == PROCESSES + 1


async def test_processes_that_cannot_start_end_the_supervisor(
    cinema: Cinema,
) -> None:
    supervisor = await supervised(cinema, AMQP_URL="amqp://127.0.0.1:1/")
    assert await supervisor.exit_code() == 3


async def test_no_worker_outlives_its_supervisor(cinema: Cinema) -> None:
    supervisor = await supervised(cinema)
    await supervisor.logged(READY, PROCESSES)
    # Its log ends only when everybody who could write to it is gone.
    await supervisor.kill()
    assert supervisor.log.count('"message": "stopped') == PROCESSES
