"""The README, pasted: its commands and its programs do what it says they do."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.acceptance.cinema import Cinema

README: Final = Path(__file__).parents[2] / "README.md"
DEADLINE_SECONDS: Final = 30


def blocks(language: str, containing: str) -> str:
    """The code block of the README that holds these words."""
    found = re.findall(rf"^```{language}\n(.*?)^```", README.read_text(), re.MULTILINE | re.DOTALL)
    (block,) = [block for block in found if containing in block]
    return str(block)


def environment(cinema: Cinema) -> dict[str, str]:
    """What a reader has after pasting the two lines of ``dev``, and a .venv to run things from."""
    return {
        **os.environ,
        "RESERVATION_AMQP_URL": cinema.amqp_url,
        "RESERVATION_MONGODB_URI": cinema.mongodb_uri,
        "RESERVATION_MONGODB_DATABASE": cinema.database.name,
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / ".venv").symlink_to(Path(sys.executable).parents[1])
    return tmp_path


async def run(script: str, cinema: Cinema, folder: Path) -> str:
    process = await asyncio.create_subprocess_exec(
        *("/bin/sh", "-e", "-c", script),
        cwd=folder,
        env=environment(cinema),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(DEADLINE_SECONDS):
        output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return output.decode()


async def test_the_commands_for_publishers_import_publish_and_show_both_outcomes(
    cinema: Cinema, folder: Path
) -> None:
    await cinema.start_worker()
    output = await run(blocks("sh", "movies.jsonl"), cinema, folder)
    assert '"requestId":"r-1"' in output
    assert '"outcome":"confirmed"' in output
    assert '"reason":"sold_out"' in output


async def test_what_the_program_for_publishers_sends_reaches_the_program_for_subscribers(
    cinema: Cinema, folder: Path
) -> None:
    await cinema.start_worker()
    await run(blocks("sh", "movies.jsonl").partition("\n.venv/bin/reservation-worker publish")[0],
              cinema, folder)  # fmt: skip
    (folder / "publish.py").write_text(blocks("python", "ReservationRequest"))
    (folder / "subscribe.py").write_text(blocks("python", "OutcomeEvent"))
    # The queue of the program, made before it starts so that no event comes too early for it.
    tickets = await cinema.client.channel.declare_queue("tickets", durable=True)
    await tickets.bind("reservations.events", "reservation.confirmed.#")
    subscriber = await asyncio.create_subprocess_exec(
        *(sys.executable, "subscribe.py"),
        cwd=folder,
        env=environment(cinema),
        stdout=asyncio.subprocess.PIPE,
    )
    assert subscriber.stdout is not None
    try:
        sent = await run(".venv/bin/python publish.py", cinema, folder)
        async with asyncio.timeout(DEADLINE_SECONDS):
            line = (await subscriber.stdout.readline()).decode()
    finally:
        subscriber.kill()
        await subscriber.wait()
    assert line == f"{sent.split()[1]} confirmed 98\n"
