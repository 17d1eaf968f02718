"""A command of the worker as a child process, from start to end, with everything it prints."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tests.acceptance.processes import ROOT

DEADLINE_SECONDS: Final = 40
"""Only a failing test waits this long."""


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    output: str
    errors: str

    @property
    def last_line(self) -> str:
        """The last line of its standard error."""
        return self.errors.rstrip().rpartition("\n")[2]

    @property
    def everything(self) -> str:
        """Everything it printed."""
        return self.output + self.errors


async def run_command(
    settings: Mapping[str, str],
    *arguments: str,
    given: str = "",
    program: Sequence[str] = ("-m", "worker"),
) -> Ended:
    """Run ``python -m worker``, or another program, to its end.

    ``settings`` are environment variables without their prefix, ``given`` is its standard input.
    """
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("RESERVATION_")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, *program, *arguments),
        cwd=ROOT,
        env={**inherited, **{f"RESERVATION_{name}": value for name, value in settings.items()}},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            output, errors = await process.communicate(given.encode())
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return Ended(process.returncode, output.decode(), errors.decode())
