"""One server as a child process: its start, its log, its end.

Refuses to know which server the process is: the caller checks whether it is ready.

No server may outlive us, however we end. Linux has a signal for the death of a parent and macOS
has none, so a pipe does it on both: a small shell starts a watcher, then turns into the server
with ``exec``. The watcher reads from a pipe whose other end only this process holds. Nothing is
ever written to it; when we end, by whatever means, the kernel closes our end, the read returns,
and the watcher kills its own process group, which is the server and itself. (A fork of this
process that lives on, as ``multiprocessing`` makes them on demand, holds that end as well.)
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final

from worker.errors import EmbeddedServerError

PROBE_INTERVAL_SECONDS: Final = 0.02
LOCK_TIMEOUT_SECONDS: Final = 3
"""What is left of a killed server holds the lock a moment longer than the server itself lives."""
LOG_TAIL_LINES_MAX: Final = 60
"""After the line that says why it does not start, RabbitMQ writes about fifty more."""
LOG_TAIL_BYTES_MAX: Final = 16_384

START_UNDER_WATCH: Final = """
exec 3<&0
(trap '' HUP INT TERM; read -r line <&3; kill -KILL 0) &
exec "$@" 3<&- </dev/null
"""
"""The watcher ignores what a terminal or a supervisor sends to a whole group: only the end of the
pipe and SIGKILL end it. Because it belongs to the group, the group's number stays taken for as long
as it lives, so killing the group can never hit unrelated processes."""


class ServerProcess:
    """A server in a session of its own, so that Ctrl-C reaches us and not the server.

    Its output is appended to ``<name>.log`` in ``folder``. The log is locked for as long as any
    process of the server has it open, so a folder never has two servers of one name.
    """

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder
        self.log = folder / f"{name}.log"
        self._process: asyncio.subprocess.Process | None = None
        self._lifeline: int | None = None
        self._log_start_bytes = 0

    @property
    def running(self) -> bool:
        """Whether the server was started and has not ended."""
        return self._process is not None and self._process.returncode is None

    @property
    def pid(self) -> int | None:
        """The process id of the server itself, or None when it is not running."""
        return self._process.pid if self._process is not None and self.running else None

    async def start(
        self,
        command: Sequence[str | Path],
        environment: Mapping[str, str],
        *,
        work_in: Path | None = None,
    ) -> None:
        """Start the program; it has ``environment`` and nothing of ours, but works where we do.

        Returns as soon as the process exists. Raises EmbeddedServerError if it cannot, or if
        such a server, whoever started it, is running in the folder.
        """
        self._kill_group()
        self._process = None
        with ExitStack() as on_the_way:
            reading_end, writing_end = os.pipe()
            on_the_way.callback(os.close, reading_end)
            on_the_way.callback(os.close, writing_end)
            log = self._open_log()
            on_the_way.callback(os.close, log)
            await self._lock(log)
            try:
                self._process = await asyncio.create_subprocess_exec(
                    *("/bin/sh", "-c", START_UNDER_WATCH, self.name, *command),
                    stdin=reading_end,
                    stdout=log,
                    stderr=log,
                    env=dict(environment),
                    cwd=work_in,
                    start_new_session=True,
                )
            except OSError as error:
                raise EmbeddedServerError(f"{self.name} cannot be started: {error}") from error
            self._lifeline = os.dup(writing_end)

    async def until(self, ready: Callable[[], Awaitable[bool]], deadline_seconds: float) -> None:
        """Wait until ``ready`` returns True.

        Raises EmbeddedServerError, with the end of the log, if the server ends before that or
        the deadline passes.
        """

        async def ready_or_ended() -> bool:
            return not self.running or await ready()

        try:
            await poll(ready_or_ended, deadline_seconds)
        except TimeoutError:
            raise self._failure(f"was not ready within {deadline_seconds:g} s") from None
        if not self.running:
            raise self._failure("ended while it was starting")

    async def terminate(self, grace_seconds: float) -> None:
        """Ask the server to end with SIGTERM; kill what has not ended after ``grace_seconds``.

        Cancelled while it waits, it kills at once.
        """
        if self._process is None:
            return
        try:
            with suppress(ProcessLookupError, TimeoutError):
                # The signal goes to the server alone: the watcher must see the end.
                self._process.terminate()
                async with asyncio.timeout(grace_seconds):
                    await self._process.wait()
        finally:
            self._kill_group()
        await self._process.wait()

    async def kill(self) -> None:
        """End the server with SIGKILL, as a crash would, and wait until it is gone."""
        self._kill_group()
        if self._process is not None:
            await self._process.wait()

    def _kill_group(self) -> None:
        if self._process is None or self._lifeline is None:
            return
        # macOS answers EPERM where only ended processes are left in the group.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        os.close(self._lifeline)
        self._lifeline = None

    def _open_log(self) -> int:
        self.folder.mkdir(parents=True, exist_ok=True)
        log = os.open(self.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._log_start_bytes = os.fstat(log).st_size
        return log

    async def _lock(self, log: int) -> None:
        # The lock passes to the server with the open file.
        async def locked() -> bool:
            try:
                fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            return True

        try:
            await poll(locked, LOCK_TIMEOUT_SECONDS)
        except TimeoutError:
            raise EmbeddedServerError(
                f"{self.folder} is in use: a {self.name} is running in it already"
            ) from None

    def _failure(self, what: str) -> EmbeddedServerError:
        with self.log.open("rb") as log:
            size_bytes = os.fstat(log.fileno()).st_size
            log.seek(max(self._log_start_bytes, size_bytes - LOG_TAIL_BYTES_MAX))
            lines = log.read().decode(errors="replace").splitlines()
        tail = "\n".join(lines[-LOG_TAIL_LINES_MAX:]) or "(nothing)"
        return EmbeddedServerError(f"{self.name} {what}; the end of {self.log}:\n{tail}")


async def poll(ready: Callable[[], Awaitable[bool]], deadline_seconds: float) -> None:
    """Call ``ready`` until it returns True; raises TimeoutError at the deadline."""
    async with asyncio.timeout(deadline_seconds):
        while True:
            if await ready():
                return
            await asyncio.sleep(PROBE_INTERVAL_SECONDS)


async def output_of(
    command: Sequence[str | Path],
    environment: Mapping[str, str],
    folder: Path,
    deadline_seconds: float,
) -> str:
    """Run a program to its end, in ``folder``, and return what it prints.

    Raises EmbeddedServerError, with what it printed, if it fails; also at the deadline.
    """
    name = " ".join((Path(command[0]).name, *map(str, command[1:])))
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=dict(environment),
            cwd=folder,
            # One group for the program and its children, so that all of them can be ended.
            start_new_session=True,
        )
    except OSError as error:
        raise EmbeddedServerError(f"{name} cannot be started: {error}") from error
    try:
        async with asyncio.timeout(deadline_seconds):
            output, _ = await process.communicate()
    except TimeoutError:
        raise EmbeddedServerError(f"{name} took more than {deadline_seconds:g} s") from None
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    text = output.decode(errors="replace")
    if process.returncode != 0:
        raise EmbeddedServerError(f"{name} failed with status {process.returncode}:\n{text}")
    return text


async def together(*coroutines: Coroutine[object, object, None]) -> None:
    """Run all of them at once; when one fails, cancel the others and raise its error alone."""
    try:
        async with asyncio.TaskGroup() as group:
            for coroutine in coroutines:
                group.create_task(coroutine)
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
