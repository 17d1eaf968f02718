"""Asks before something is done that cannot be undone."""

from __future__ import annotations

import asyncio
import os
import sys

from worker.errors import BadInput


async def require_consent(question: str, *, given: bool) -> bool:
    """Whether to go on: consent is ``given`` already, or somebody at the terminal says yes.

    Raises BadInput where there is no terminal to ask at.
    """
    if given:
        return True
    if not sys.stdin.isatty():
        raise BadInput(f"{question} There is no terminal to ask at: say --yes, or --dry-run")
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    answer = await _line_of_input()
    return answer.strip().lower() in {"y", "yes"}


async def _line_of_input() -> str:
    """Wait without a thread, as Ctrl-C would have to wait for it."""
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), readable.set)
    # uvloop makes it non-blocking, and with it everything that writes to the same terminal.
    os.set_blocking(sys.stdin.fileno(), True)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(sys.stdin.fileno())
    # A terminal delivers whole lines, so this does not block.
    return sys.stdin.readline()
