"""Dead letters for tests: put into their queue, taken out of it, and the commands run on them.

The commands are processes, so that what removes a dead letter is what an operator would call.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import aio_pika

from tests.acceptance.client import DEAD_LETTERS, Client, Received
from tests.acceptance.commands import Ended, run_command

WITH_A_PAGE_SIZE: Final = """
import sys
from worker.broker import dead_letters
from worker.cli import main

dead_letters.PAGE_SIZE = {page_size}
sys.exit(main())
"""
"""The command line with so few dead letters in a page that a test needs only a few for several."""


async def post(
    client: Client,
    body: bytes | dict[str, Any],
    error: str = "undeliverable",
    detail: str = "why",
    *,
    key: str = "heat",
    **properties: Any,  # noqa: ANN401  # Whatever aio-pika's Message takes.
) -> None:
    """Publish a dead letter."""
    exchange = await client.channel.get_exchange(DEAD_LETTERS)
    given = properties.pop("headers", {})
    headers = {"x-reservation-error": error, "x-reservation-error-detail": detail, **given}
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    message = aio_pika.Message(content, headers=headers, delivery_mode=2, **properties)
    await exchange.publish(message, key)


async def all_of(client: Client, number: int) -> list[Received]:
    """All dead letters, taken out of the queue, of which there are so many."""
    queue = await client.channel.get_queue(DEAD_LETTERS)
    found = [Received.of(await queue.get(timeout=10)) for _ in range(number)]
    assert await client.depth(DEAD_LETTERS) == 0
    return found


def bodies(received: list[Received]) -> list[bytes]:
    return [message.body for message in received]


async def run_dead_letters(
    settings: Mapping[str, str], *arguments: str, page_size: int | None = None
) -> Ended:
    """Run ``reservation-worker dead-letters`` with these arguments to its end."""
    if page_size is None:
        return await run_command(settings, "dead-letters", *arguments)
    program = ("-c", WITH_A_PAGE_SIZE.format(page_size=page_size))
    return await run_command(settings, "dead-letters", *arguments, program=program)
