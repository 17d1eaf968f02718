"""Asking before something is done that cannot be taken back."""

from __future__ import annotations

import asyncio
import os
import sys

from worker.errors import BadInput


async def require_consent(question: str, *, given: bool) -> bool:
    """Whether to go on: it is ``given`` already, or somebody at the terminal says yes.

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
    """Waits without a thread, which Ctrl-C would have to wait for."""
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), readable.set)
    # uvloop makes it non-blocking, and with it whatever else writes to the same terminal.
    os.set_blocking(sys.stdin.fileno(), True)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(sys.stdin.fileno())
    # A terminal gives whole lines, so this does not wait.
    return sys.stdin.readline()
