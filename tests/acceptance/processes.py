"""The real worker as a child process: started, watched through its log, stopped or killed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self

ROOT: Final = Path(__file__).parents[2]
DEADLINE_SECONDS: Final = 40
"""For a start or a stop; only a test that fails waits as long."""
READY: Final = "ready"


class WorkerProcess:
    """``python -m worker run`` with its settings in the environment."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[str] = []
        self.killed = False
        self._logged = asyncio.Event()
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def start(
        cls,
        settings: Mapping[str, str],
        *arguments: str,
        program: Sequence[str] = ("-m", "worker"),
    ) -> Self:
        """Start it; ``settings`` are environment variables without their prefix."""
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("RESERVATION_")}
        given = {f"RESERVATION_{name}": value for name, value in settings.items()}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, *program, "run", "--until-input-ends", *arguments),
            cwd=ROOT,
            env={**inherited, "RESERVATION_LOG_FORMAT": "json", **given},
            # The other end is open for as long as this process lives: no worker outlives its test.
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            limit=2**20,
        )
        return cls(process)

    @property
    def log(self) -> str:
        return "\n".join(self.lines)

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The lines of the log that are JSON: all but what the command itself says at its end."""
        return [json.loads(line) for line in self.lines if line.startswith("{")]

    async def logged(self, text: str, times: int = 1) -> None:
        """Wait until so many lines of the log hold this text."""
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                while sum(text in line for line in self.lines) < times:
                    assert not self._reading.done(), f"ended without {text!r}:\n{self.log}"
                    self._logged.clear()
                    await self._logged.wait()
        except TimeoutError:
            raise AssertionError(f"no {text!r} in the log:\n{self.log}") from None

    def signal(self, number: int = signal.SIGTERM) -> None:
        self.process.send_signal(number)

    async def exit_code(self) -> int:
        """Wait for the end by itself."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            code = await self.process.wait()
            await self._reading
        return code

    async def stop(self) -> int:
        """Ask for a stop and wait for the end."""
        if self.process.returncode is None:
            self.signal()
        return await self.exit_code()

    async def kill(self) -> None:
        """As a crash of the machine would."""
        self.killed = True
        if self.process.returncode is None:
            self.process.kill()
        await self.exit_code()

    async def _read(self) -> None:
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            self.lines.append(line.decode().rstrip())
            self._logged.set()
        self._logged.set()
