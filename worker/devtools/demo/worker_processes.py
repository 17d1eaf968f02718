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
"""Beyond the drain time, before a worker that was asked to stop is killed."""

READY: Final = b'"message": "ready'
"""As ``worker/service/runtime.py`` logs it."""
CONFLICT: Final = b"Conflict:"
"""As ``worker/service/recording.py`` logs the failure of an attempt."""


class WorkerProcess:
    """One worker process, and what its log says."""

    def __init__(self, number: int, folder: Path) -> None:
        self.number = number
        self.state: Literal["starting", "working", "killed", "stopped"] = "starting"
        self.process = ServerProcess(f"worker-{number}", folder)
        self.conflicts = 0
        self._read_bytes = 0

    def read_log(self) -> None:
        """Pick out of the new lines of the log what the demo shows."""
        with self.process.log.open("rb") as log:
            log.seek(self._read_bytes)
            news = log.read()
        complete = news[: news.rfind(b"\n") + 1]
        self._read_bytes += len(complete)
        self.conflicts += complete.count(CONFLICT)
        if self.state == "starting" and READY in complete:
            self.state = "working"

    async def is_working(self) -> bool:
        """Whether it consumes requests."""
        self.read_log()
        return self.state == "working"


class WorkerPool:
    """All worker processes of the demo, also those that have ended."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self._environment = environment_of(settings)
        self._grace_seconds = settings.drain_seconds + STOP_MARGIN_SECONDS
        self._folder = folder
        self.processes: list[WorkerProcess] = []

    async def start(self) -> WorkerProcess:
        """Start one more and wait until it consumes requests; raises EmbeddedServerError."""
        worker = WorkerProcess(len(self.processes) + 1, self._folder)
        self.processes.append(worker)
        await worker.process.start([sys.executable, "-m", "worker", "run"], self._environment)
        await worker.process.until(worker.is_working, START_TIMEOUT_SECONDS)
        return worker

    def check(self) -> None:
        """Read the logs; raises EmbeddedServerError for a process that ended by itself."""
        for worker in self.processes:
            worker.read_log()
            if worker.state == "working" and not worker.process.running:
                raise EmbeddedServerError(
                    f"{worker.process.name} ended by itself; see {worker.process.log}"
                )

    async def kill(self, worker: WorkerProcess) -> None:
        """Send SIGKILL: the process gets no chance to settle, close or log anything."""
        worker.state = "killed"
        await worker.process.kill()

    async def stop(self) -> None:
        """Send SIGTERM to all running workers, and wait until they have drained."""
        running = [worker for worker in self.processes if worker.process.running]
        for worker in running:
            worker.state = "stopped"
        await asyncio.gather(*(worker.process.terminate(self._grace_seconds) for worker in running))
