"""A request that kills the worker that decides it must not take other requests with it.

Deliveries that a dying worker held come again as failed ones, whatever their own merits, and what
failed too often is given up. So a deadly request must not have others beside it for long.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any, Final

from tests.acceptance.cinema import Cinema, request_for, slots
from tests.acceptance.client import REQUESTS
from tests.acceptance.processes import WorkerProcess

DEADLY: Final = "deadly"
PROGRAM: Final = """
import os, signal, sys
import worker.service.recording
from worker.cli import main

decide = worker.service.recording.decide

def decide_or_die(requests, *rest):
    if any(request.request_id == "deadly" for request in requests):
        os.kill(os.getpid(), signal.SIGKILL)
    return decide(requests, *rest)

worker.service.recording.decide = decide_or_die
sys.exit(main(sys.argv[1:]))
"""
BEFORE, BEHIND = 30, 120
DEATHS_MAX: Final = 6
"""Far from the 20 that RabbitMQ allows: with others, and then alone."""
GIVEN_UP_AFTER: Final = 18


async def start_mortal(cinema: Cinema) -> WorkerProcess:
    worker = await WorkerProcess.start(
        {
            "AMQP_URL": cinema.amqp_url,
            "MONGODB_URI": cinema.mongodb_uri,
            "MONGODB_DATABASE": cinema.database.name,
            "BATCH_SIZE": "50",
        },
        program=("-c", PROGRAM),
    )
    cinema.workers.append(worker)
    return worker


async def until_all_others_are_answered(cinema: Cinema, requests: list[dict[str, Any]]) -> int:
    """Let one worker after the other die of it; how many did."""
    names = [request["requestId"] for request in requests]
    answered = asyncio.create_task(cinema.client.outcomes(names))
    deaths = 0
    while not answered.done():
        worker = await start_mortal(cinema)
        dying = asyncio.create_task(worker.process.wait())
        await asyncio.wait({answered, dying}, return_when=asyncio.FIRST_COMPLETED)
        deaths += dying.done()
        await worker.kill()
    await answered
    return deaths


async def fail_until_it_is_exhausted(cinema: Cinema) -> None:
    """What further deaths would do, but faster."""
    queue = await cinema.client.channel.get_queue(REQUESTS)
    failures = 0
    while failures < GIVEN_UP_AFTER:
        message = await queue.get(fail=False)
        if message is not None:
            failures = int(str(message.headers.get("x-delivery-count", 0))) + 1
            await message.reject(requeue=True)


async def test_a_request_that_kills_its_worker_is_given_up_alone(
    cinema: Cinema,
) -> None:
    movie = await cinema.show(*slots(1000))
    others = [request_for(movie) for _ in range(BEFORE + BEHIND)]
    deadly = request_for(movie, request_id=DEADLY)
    await cinema.client.publish_all(others[:BEFORE])
    await cinema.client.publish(deadly)
    await cinema.client.publish_all(others[BEFORE:])
    deaths = await until_all_others_are_answered(cinema, others)
    assert 1 <= deaths <= DEATHS_MAX
    assert cinema.client.received_dead_letters == []
    await fail_until_it_is_exhausted(cinema)
    last = await start_mortal(cinema)
    (dead_letter,) = await cinema.client.dead_letters(1)
    assert (json.loads(dead_letter.body), dead_letter.error) == (deadly, "undeliverable")
    assert await last.stop() == 0
    assert DEADLY not in cinema.client.events
    assert (await cinema.movie(movie))["timeSlots"][0]["bookedCount"] == len(others)
