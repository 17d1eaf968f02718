"""The worker processes of the demo: real ones, started, killed and stopped as an operator would."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Final, Literal

from worker.devtools.servers.process import ServerProcess
from worker.errors import EmbeddedServerError
from worker.settings import Settings, environment_of

START_TIMEOUT_SECONDS: Final = 20
STOP_MARGIN_SECONDS: Final = 5
"""Beyond the drain time, before a worker that was told to stop is killed."""

# As the worker writes them, in worker/service/runtime.py and worker/service/recording.py.
READY: Final = b'"message": "ready'
CONFLICT: Final = b"Conflict:"


class Member:
    """One worker process, and what its log says."""

    def __init__(self, number: int, folder: Path) -> None:
        self.number = number
        self.state: Literal["starting", "working", "killed", "stopped"] = "starting"
        self.process = ServerProcess(f"worker-{number}", folder)
        self.conflicts = 0
        self._read_bytes = 0

    def read_log(self) -> None:
        """Pick out of the new lines of the log what the audience wants to know."""
        with self.process.log.open("rb") as log:
            log.seek(self._read_bytes)
            news = log.read()
        complete = news[: news.rfind(b"\n") + 1]
        self._read_bytes += len(complete)
        self.conflicts += complete.count(CONFLICT)
        if self.state == "starting" and READY in complete:
            self.state = "working"

    async def is_working(self) -> bool:
        """Whether it takes requests."""
        self.read_log()
        return self.state == "working"


class Crew:
    """All worker processes that ever took part."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self._environment = environment_of(settings)
        self._grace_seconds = settings.drain_seconds + STOP_MARGIN_SECONDS
        self._folder = folder
        self.members: list[Member] = []

    async def start(self) -> Member:
        """Start one more process and wait until it takes requests; raises EmbeddedServerError."""
        member = Member(len(self.members) + 1, self._folder)
        self.members.append(member)
        await member.process.start([sys.executable, "-m", "worker", "run"], self._environment)
        await member.process.until(member.is_working, START_TIMEOUT_SECONDS)
        return member

    def check(self) -> None:
        """Read the logs; raises EmbeddedServerError for a process that ended by itself."""
        for member in self.members:
            member.read_log()
            if member.state == "working" and not member.process.running:
                raise EmbeddedServerError(
                    f"{member.process.name} ended by itself; see {member.process.log}"
                )

    async def kill(self, member: Member) -> None:
        """SIGKILL: the process gets no chance to settle, close or say anything."""
        member.state = "killed"
        await member.process.kill()

    async def stop(self) -> None:
        """SIGTERM to whoever works, and wait for the drain."""
        working = [member for member in self.members if member.process.running]
        for member in working:
            member.state = "stopped"
        await asyncio.gather(*(member.process.terminate(self._grace_seconds) for member in working))
