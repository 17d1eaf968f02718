"""``run --processes N``: several workers on the same queue, kept running and stopped together.

The parent does no work itself: it starts the processes, replaces those that end, passes on signals,
and waits for every drain. All that it knows of a worker is its exit code.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from contextlib import suppress
from typing import Final

from worker.errors import (
    BadSettings,
    BrokerUnusable,
    DrainTimedOut,
    StoreUnusable,
    TopologyDiffers,
    WorkerError,
)
from worker.service.backoff import backoff, seconds_after
from worker.service.signals import stop_signals
from worker.settings import Settings, environment_of

log: Final = logging.getLogger(__name__)

START_FAILURES: Final[dict[int, type[WorkerError]]] = {
    failure.exit_code: failure
    for failure in (BadSettings, BrokerUnusable, StoreUnusable, TopologyDiffers)
}
"""A worker ends with one of these codes only at its start, and has reported the reason itself."""

RESTART_WAIT: Final = backoff(first_seconds=0.5, longest_seconds=15)
STEADY_SECONDS: Final = 60
"""A process that lived for this long did not die of its start: the backoff begins anew."""


async def run_processes(settings: Settings, processes: int) -> None:
    """Keep this many worker processes running until a signal, then drain all of them.

    Raises the error of the first process that cannot even start, and DrainTimedOut if one of them
    does not drain in time.
    """
    supervisor = Supervisor(settings)
    with stop_signals(supervisor.stop):
        async with asyncio.TaskGroup() as tasks:
            for number in range(1, processes + 1):
                tasks.create_task(supervisor.keep_running(number))
    if DrainTimedOut.exit_code in supervisor.exit_codes:
        raise DrainTimedOut(f"the processes ended with {supervisor.exit_codes}")
    if any(supervisor.exit_codes):
        raise WorkerError(f"the processes ended with {supervisor.exit_codes}")


class Supervisor:
    """The processes that are meant to run."""

    def __init__(self, settings: Settings) -> None:
        self._environment = environment_of(settings)
        self._running: set[asyncio.subprocess.Process] = set()
        self._stopping = asyncio.Event()
        self.exit_codes: list[int] = []

    def stop(self) -> None:
        """Ask every process to stop; a second call, to stop at once."""
        for process in self._running:
            _abort(process) if self._stopping.is_set() else _stop(process)
        self._stopping.set()

    async def keep_running(self, number: int) -> None:
        """Run one process after another until the stop."""
        failures = 0
        while not self._stopping.is_set():
            started = time.monotonic()
            code = await self._run_one()
            if self._stopping.is_set():
                self.exit_codes.append(code)
                return
            if failure := START_FAILURES.get(code) if not failures else None:
                raise failure(f"worker process {number} could not start")
            failures = 1 if time.monotonic() - started > STEADY_SECONDS else failures + 1
            wait_seconds = seconds_after(failures, RESTART_WAIT)
            log.warning(
                "worker process %d ended with %d, starting another in %.1f s",
                number,
                code,
                wait_seconds,
            )
            await self._pause(wait_seconds)

    async def _run_one(self) -> int:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "worker", "run", "--until-input-ends",
            env=self._environment,
            # Open for as long as this process lives; its end asks the worker to stop.
            stdin=asyncio.subprocess.PIPE,
            # Ctrl-C in a terminal reaches this process, which passes it on; twice would abort.
            start_new_session=True,
        )  # fmt: skip
        self._running.add(process)
        if self._stopping.is_set():
            _stop(process)
        try:
            return await process.wait()
        except asyncio.CancelledError:
            # Another process could not start, so none of them is to run.
            _stop(process)
            await process.wait()
            raise
        finally:
            self._running.discard(process)

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return


def _stop(process: asyncio.subprocess.Process) -> None:
    """End its input, which it notices even while it is starting."""
    if process.stdin is not None:
        process.stdin.close()


def _abort(process: asyncio.subprocess.Process) -> None:
    """Send a signal, which is its second request to stop."""
    with suppress(ProcessLookupError):
        process.terminate()
