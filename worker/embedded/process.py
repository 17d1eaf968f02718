"""A server as a child process: it ends when told to, and never outlives whoever started it."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from worker.errors import EmbeddedServerError

STOP_TIMEOUT_SECONDS: Final = 20
"""For an orderly end; RabbitMQ takes about 3 s, mongod less than one."""
POLL_SECONDS: Final = 0.05
LOG_TAIL_LINES: Final = 15

# The shell becomes the server, so that the server has the pid and the process group that are
# known here. Before that it leaves a watcher in the same group, which reads from a pipe that
# only the parent holds open: at the parent's end, even by SIGKILL, the read returns and the
# group is told to end. The watcher's being in the group also keeps the group's number from
# being given to somebody else while it may still be signalled.
SUPERVISED: Final = """
exec 3<&0
( read -r _ <&3; kill -TERM -$$ ) &
exec "$@" 3<&- </dev/null
"""


def free_port() -> int:
    """A TCP port on the loopback interface that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class ServerProcess:
    """One child process with a process group and a log file of its own."""

    def __init__(self, name: str, log_file: Path) -> None:
        self._name = name
        self._log_file = log_file
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int | None:
        """Of the server, while there is one."""
        return self._process.pid if self._process else None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def start(
        self, command: Sequence[str], environment: Mapping[str, str] | None = None
    ) -> None:
        """Start it; its output is appended to the log file."""
        self._log_file.parent.mkdir(parents=True, exist_ok=True)
        with self._log_file.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                "/bin/sh", "-c", SUPERVISED, self._name, *command,
                env=None if environment is None else {**os.environ, **environment},
                stdin=asyncio.subprocess.PIPE,
                stdout=log,
                stderr=log,
                # A Ctrl-C in the terminal is for the worker, which still needs its servers.
                start_new_session=True,
            )  # fmt: skip

    async def stop(self) -> None:
        """SIGTERM, and SIGKILL for what is left of it after STOP_TIMEOUT_SECONDS."""
        self._signal(signal.SIGTERM)
        if not await self._gone(STOP_TIMEOUT_SECONDS):
            await self.kill()

    async def kill(self) -> None:
        """SIGKILL, as a crash or the kernel's out-of-memory killer would do it."""
        self._signal(signal.SIGKILL)
        await self._gone(STOP_TIMEOUT_SECONDS)

    def failure(self, problem: str) -> EmbeddedServerError:
        """An error with the end of the log, which says why better than anything else."""
        lines = self._log_file.read_text(errors="replace").splitlines()
        tail = "\n".join(f"    {line}" for line in lines[-LOG_TAIL_LINES:])
        return EmbeddedServerError(f"{self._name} {problem}; its log ends with:\n{tail}")

    def _signal(self, number: int) -> bool:
        """Signal the whole group, and say whether there still was one; 0 only asks."""
        if self._process is None:
            return False
        try:
            os.killpg(self._process.pid, number)
        except ProcessLookupError:
            return False
        return True

    async def _gone(self, timeout_seconds: float) -> bool:
        """Whether every process of the group ended in time."""
        try:
            async with asyncio.timeout(timeout_seconds):
                while self._signal(0):  # noqa: ASYNC110  # No event tells the end of a group.
                    await asyncio.sleep(POLL_SECONDS)
        except TimeoutError:
            return False
        if self._process is not None:
            await self._process.wait()
        self._process = None
        return True
