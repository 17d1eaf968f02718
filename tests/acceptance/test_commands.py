"""The commands as processes: what they print, and the exit code with which they end."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import tomllib
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from tests.acceptance.cinema import Cinema, request_for, slots
from tests.acceptance.commands import run_command
from tests.acceptance.processes import DEADLINE_SECONDS, ROOT
from worker.settings import Settings, environment_of


@asynccontextmanager
async def started(cinema: Cinema, *arguments: str) -> AsyncIterator[Process]:
    """A command that runs no longer than the test."""
    settings = Settings(
        amqp_url=cinema.amqp_url,
        mongodb_uri=cinema.mongodb_uri,
        mongodb_database=cinema.database.name,
    )
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "worker", *arguments),
        cwd=ROOT,
        env=environment_of(settings),
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=PIPE,
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


async def run(cinema: Cinema, *arguments: str) -> tuple[int | None, str, str]:
    """The exit code of a command, its standard output and its standard error."""
    async with started(cinema, *arguments) as process, asyncio.timeout(DEADLINE_SECONDS):
        output, errors = await process.communicate()
        return process.returncode, output.decode(), errors.decode()


async def test_the_version_is_that_of_the_distribution() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    ended = await run_command({}, "--version")
    assert (ended.code, ended.errors) == (0, "")
    assert ended.output == f"{project['name']} {project['version']}\n"


async def test_a_misspelt_setting_is_named_without_its_value() -> None:
    secret = "amqp://user:hunter2@host/"
    misspelt = {"AMQPURL": secret, "AMQP_URL": "amqp://127.0.0.1:1/", "LOG_FORMAT": "json"}
    ended = await run_command(misspelt, "publish", "-")
    first, *others = ended.errors.splitlines()
    assert (ended.code, len(others)) == (3, 1)
    assert json.loads(first)["level"] == "WARNING"
    assert "RESERVATION_AMQPURL is not a setting and is ignored; did you mean" in first
    assert "hunter2" not in ended.everything


async def test_an_operator_sees_what_went_wrong_and_what_to_do(cinema: Cinema) -> None:
    movie = await cinema.show(*slots(10, booked=3))
    await cinema.client.leave_dead_letters()
    await cinema.start_worker()
    good, other = request_for(movie, 2), request_for(movie, 1)
    await cinema.client.publish_all([good, {**other, "timeSlotId": "1"}])
    await cinema.client.outcomes([good["requestId"], other["requestId"]])

    code, output, errors = await run(cinema, "audit")
    assert code == 1
    assert output.startswith(f"I2 movie {movie}, time slot 1: bookedCount is 5, but 2 people are ")
    assert errors.startswith("reservation-worker: 1 violations; nothing was changed")
    assert (await run(cinema, "movies", "adopt"))[0] == 0
    assert (await run(cinema, "audit"))[0] == 0

    code, output, errors = await run(cinema, "dead-letters", "list", "--error", "invalid_request")
    assert (code, other["requestId"] in output, errors) == (0, True, "")
    code, output, errors = await run(cinema, "dead-letters", "redrive")
    assert (code, "say --yes, or --dry-run" in errors) == (2, True)

    code, output, errors = await run(cinema, "replay", good["requestId"])
    assert (code, output[:30], errors) == (0, "published 1 recorded outcomes ", "")
    first, again = await cinema.client.all_events(good["requestId"], 2)
    assert first == again


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
async def test_a_signal_ends_an_audit_and_its_scan_at_once(
    cinema: Cinema, number: signal.Signals, code: int
) -> None:
    await cinema.database.create_collection("slow")
    # One second per movie; after each, the server checks whether it should go on.
    await cinema.database.slow.insert_many([{"_id": str(number)} for number in range(600)])
    body = "function() { sleep(1000); return true }"
    slowly = {"$expr": {"$function": {"body": body, "args": [], "lang": "js"}}}
    await cinema.database.create_collection("movies", viewOn="slow", pipeline=[{"$match": slowly}])
    async with started(cinema, "audit") as process:
        await scan_begun(cinema)
        process.send_signal(number)
        async with asyncio.timeout(DEADLINE_SECONDS):
            assert await process.wait() == code
    assert await scans(cinema) == []


async def scans(cinema: Cinema) -> list[dict[str, Any]]:
    """What MongoDB is busy with in the database of this test."""
    pipeline: list[dict[str, Any]] = [
        {"$currentOp": {}},
        {"$match": {"ns": f"{cinema.database.name}.slow", "active": True}},
    ]
    cursor = await cinema.database.client.admin.aggregate(pipeline)
    return await cursor.to_list()


async def scan_begun(cinema: Cinema) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not await scans(cinema):  # noqa: ASYNC110  # The server has no event for it.
            await asyncio.sleep(0.05)
