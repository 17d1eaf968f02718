"""The README and the pages of docs, pasted: their commands and programs do what they say."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.acceptance.cinema import Cinema

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
DEADLINE_SECONDS: Final = 30


def pasted(language: str, containing: str) -> str:
    """The one code block of all pages that holds these words."""
    fence = re.compile(rf"^```{language}\n(.*?)^```", re.MULTILINE | re.DOTALL)
    found = [block for page in PAGES for block in fence.findall(page.read_text())]
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


async def test_the_commands_import_publish_and_show_both_outcomes(
    cinema: Cinema, folder: Path
) -> None:
    await cinema.start_worker()
    output = await run(pasted("sh", "cat > movies.jsonl"), cinema, folder)
    assert '"requestId":"r-1"' in output
    assert '"outcome":"confirmed"' in output
    assert '"reason":"sold_out"' in output


async def test_the_subscriber_receives_what_the_publisher_asks_for(
    cinema: Cinema, folder: Path
) -> None:
    await cinema.start_worker()
    commands = pasted("sh", "cat > movies.jsonl")
    await run(commands.partition("\n.venv/bin/reservation-worker publish")[0], cinema, folder)
    (folder / "publish.py").write_text(pasted("python", "ReservationRequest"))
    (folder / "subscribe.py").write_text(pasted("python", "OutcomeEvent"))
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
