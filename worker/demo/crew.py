"""The worker processes of the demo: real ones, started, killed and stopped as an operator would."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Final, Literal

from worker.embedded.process import POLL_SECONDS, ServerProcess
from worker.settings import Settings, environment_of

START_TIMEOUT_SECONDS: Final = 20

# As the worker writes them, in worker/runtime.py and worker/recording.py.
READY: Final = b'"message": "ready'
CONFLICT: Final = b"Conflict:"


class Member:
    """One worker process, and what its log says."""

    def __init__(self, number: int, log_file: Path) -> None:
        self.number = number
        self.state: Literal["starting", "working", "killed", "stopped"] = "starting"
        self.process = ServerProcess(f"worker {number}", log_file)
        self.conflicts = 0
        self._log_file = log_file
        self._read_bytes = 0

    def read_log(self) -> None:
        """Pick out of the new lines of the log what the audience wants to know."""
        with self._log_file.open("rb") as log:
            log.seek(self._read_bytes)
            news = log.read()
        complete = news[: news.rfind(b"\n") + 1]
        self._read_bytes += len(complete)
        self.conflicts += complete.count(CONFLICT)
        if self.state == "starting" and READY in complete:
            self.state = "working"


class Crew:
    """All worker processes that ever took part."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self._environment = environment_of(settings)
        self._folder = folder
        self.members: list[Member] = []

    async def start(self) -> Member:
        """Start one more process and wait until it takes requests; raises EmbeddedServerError."""
        number = len(self.members) + 1
        member = Member(number, self._folder / f"worker-{number}.log")
        self.members.append(member)
        await member.process.start([sys.executable, "-m", "worker", "run"], self._environment)
        async with asyncio.timeout(START_TIMEOUT_SECONDS):
            while member.state == "starting":
                self.check()
                await asyncio.sleep(POLL_SECONDS)
        return member

    def check(self) -> None:
        """Read the logs; raises EmbeddedServerError for a process that ended by itself."""
        for member in self.members:
            member.read_log()
            if member.state in {"starting", "working"} and not member.process.running:
                raise member.process.failure("ended by itself")

    async def kill(self, member: Member) -> None:
        """SIGKILL: the process gets no chance to settle, close or say anything."""
        member.state = "killed"
        await member.process.kill()

    async def stop(self) -> None:
        """SIGTERM to whoever works, and wait for the drain."""
        working = [member for member in self.members if member.process.running]
        for member in working:
            member.state = "stopped"
        await asyncio.gather(*(member.process.stop() for member in working))
