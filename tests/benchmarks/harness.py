"""One measurement: a contestant's processes, a full queue, and how fast they empty it.

Owns the order of events: an empty database and empty queues, requests published first, processes
started, a window in which only the contestant works, then its latency at half of that throughput,
then a check of the database's consistency.
"""

from __future__ import annotations

import asyncio
import re
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from contracts import ReservationRequest
from tests.benchmarks import probes
from tests.benchmarks.database import open_database
from tests.benchmarks.failures import BenchmarkFailed
from tests.benchmarks.traffic import COUNT_SECONDS, Traffic
from tests.benchmarks.workloads import Workload
from worker.devtools.servers import EmbeddedServers
from worker.devtools.servers.process import ServerProcess
from worker.settings import Settings, environment_of

ROOT: Final = Path(__file__).parents[2]
WORKER: Final = "worker"
COMMAND: Final = {WORKER: ("worker", "run")}
"""Arguments of ``python -m``, for contestants that are not in this package."""

START_SECONDS: Final = 30
STOP_SECONDS: Final = 30
NO_OUTCOME_SECONDS_MAX: Final = 60
"""A measurement is given up after this time without an outcome."""
EXPECTED_RATES: Final = {"echo": 4_000, "sketch": 1_200, "batched echo": 12_000, WORKER: 8_000}
"""Requests a second on a fast machine, for the first queue length. A queue that is too long costs
time; one that runs empty ends its window early."""
COMMITS_PER_SECOND_MAX: Final = 300
"""Of one process, as each commit waits for a majority."""
SHARE_MEASURED: Final = 0.95
"""The share of requests measured. The last are left out, as processes finish one by one."""
LOAD: Final = 0.5
"""The share of a contestant's own throughput at which its latency is measured."""

_READY: Final = re.compile(r'(^|")ready\b', re.MULTILINE)
_TOTALS: Final = re.compile(r"(\d+) commits, (\d+) conflicts")


@dataclass(frozen=True, slots=True)
class Case:
    """A contestant, its workload and processes; no batch size means the default one."""

    contestant: str
    workload: Workload
    processes: int = 1
    batch_size: int | None = None
    database: str | None = None
    """An existing database, which is kept; None for a new one."""

    def __str__(self) -> str:
        return f"{self.contestant}, {self.workload.name}, {self.processes} proc."


@dataclass(frozen=True, slots=True)
class Timing:
    """How long each part of a measurement takes."""

    warm_up_seconds: float
    measured_seconds: float
    latency_seconds: float


@dataclass(frozen=True, slots=True)
class Sample:
    """The figures of one measurement; None for those that cannot be known."""

    requests: int
    seconds: float
    worker_cpu_us: float | None
    rabbitmq_cpu_us: float | None
    mongod_cpu_us: float | None
    commits: int
    conflicts: int
    peak_memory_mib: float | None
    latency_p50_ms: float | None
    latency_p99_ms: float | None

    @property
    def requests_per_second(self) -> float:
        return self.requests / self.seconds

    @property
    def conflicts_per_commit(self) -> float | None:
        return self.conflicts / self.commits if self.commits else None


@dataclass(frozen=True, slots=True)
class _Counters:
    """The counters at one point in time."""

    at: float
    outcomes: int
    cpu_seconds: tuple[float | None, ...]


class Harness:
    """Runs one measurement after another on the same servers."""

    def __init__(
        self, servers: EmbeddedServers, traffic: Traffic, folder: Path, show: Callable[[str], None]
    ) -> None:
        self._servers = servers
        self._traffic = traffic
        self._folder = folder
        self._show = show
        self._count = 0
        self._rates: dict[Case, float] = {}

    async def measure(self, case: Case, timing: Timing) -> Sample:
        """Measure once; raises BenchmarkFailed if the contestant fails or its data is wrong."""
        self._count += 1
        database = case.database or f"benchmark-{self._count}"
        async with open_database(self._servers.mongodb_uri, database, keep=case.database) as stored:
            if case.database is None:
                await stored.insert_movies(case.workload)
            requests = case.workload.requests(seed=self._count)
            published = self._request_count(case, timing)
            self._show(f"publishing {published:,}")
            await self._traffic.purge()
            await self._traffic.publish(requests, published)
            async with self.started(case, database) as group:
                await group.until_ready()
                self._show("measuring")
                before, after = await self._window(group, published, timing)
                rate = (after.outcomes - before.outcomes) / (after.at - before.at)
                self._rates[case] = rate
                latencies = await self._latencies(requests, rate * LOAD, timing.latency_seconds)
                peak = group.peak_memory_mib()
            if case.database is None and case.contestant in {WORKER, "sketch"}:
                await stored.check_consistency()
        if await self._traffic.dead_letters():
            raise BenchmarkFailed(f"{case}: there are dead letters")
        return _sample(before, after, group, peak, latencies)

    @asynccontextmanager
    async def started(self, case: Case, database: str) -> AsyncIterator[ProcessGroup]:
        """The processes of a contestant, started together and stopped at the end."""
        settings = Settings(
            amqp_url=self._servers.amqp_url,
            mongodb_uri=self._servers.mongodb_uri,
            mongodb_database=database,
            batch_size=case.batch_size or Settings.model_fields["batch_size"].default,
            log_format="json",
        )
        folder = self._folder / f"{self._count}"
        group = ProcessGroup([ServerProcess(f"process-{n}", folder) for n in range(case.processes)])
        name = case.contestant
        module, *arguments = COMMAND.get(name, ("tests.benchmarks.contestants", name))
        command = (sys.executable, "-m", module, *arguments)
        async with AsyncExitStack() as stack:
            for process in group.processes:
                stack.push_async_callback(process.kill)
                await process.start(command, environment_of(settings), work_in=ROOT)
            yield group
            await group.stop()

    def _request_count(self, case: Case, timing: Timing) -> int:
        expected = EXPECTED_RATES[case.contestant]
        if case.batch_size:
            expected = min(expected, case.batch_size * COMMITS_PER_SECOND_MAX)
        rate = self._rates.get(case, expected)
        seconds = timing.warm_up_seconds + timing.measured_seconds
        return int(rate * 1.2 * seconds / SHARE_MEASURED)

    async def _window(
        self, group: ProcessGroup, published: int, timing: Timing
    ) -> tuple[_Counters, _Counters]:
        """The counters once all processes are warm, and at the end of the window.

        Outcomes come in batches, so both are read just after a batch; otherwise the window would
        contain a fraction of a batch too many.
        """
        start = await self._more_outcomes(group, 0)
        await asyncio.sleep(timing.warm_up_seconds)
        before = after = await self._more_outcomes(group, start.outcomes)
        enough = published * SHARE_MEASURED
        while after.at - before.at < timing.measured_seconds and after.outcomes < enough:
            after = await self._more_outcomes(group, after.outcomes)
        if after == before:
            raise BenchmarkFailed(f"{published:,} requests were too few to measure anything")
        return before, after

    async def _more_outcomes(self, group: ProcessGroup, outcomes: int) -> _Counters:
        """The counters as soon as there are more outcomes than this."""
        deadline = time.monotonic() + NO_OUTCOME_SECONDS_MAX
        while (counters := await self._counters(group)).outcomes <= outcomes:
            group.require_running()
            if counters.at > deadline:
                raise BenchmarkFailed(f"no outcome for {NO_OUTCOME_SECONDS_MAX} s")
            await asyncio.sleep(COUNT_SECONDS)
        return counters

    async def _counters(self, group: ProcessGroup) -> _Counters:
        outcomes = await self._traffic.outcomes()
        mongod = [member.pid for member in self._servers.mongo.members if member.pid]
        groups = (group.pids, self._servers.rabbit.pids, mongod)
        return _Counters(
            time.monotonic(), outcomes, tuple(probes.cpu_seconds(group) for group in groups)
        )

    async def _latencies(
        self, requests: Iterator[ReservationRequest], rate: float, seconds: float
    ) -> list[float]:
        if not seconds:
            return []
        self._show("emptying the queue")
        await self._traffic.purge_requests()
        await self._traffic.until_quiet()
        self._show(f"latency at {rate:,.0f}/s")
        return await self._traffic.latencies(requests, rate, seconds)


class ProcessGroup:
    """The processes of one contestant."""

    def __init__(self, processes: list[ServerProcess]) -> None:
        self.processes = processes

    @property
    def pids(self) -> list[int]:
        return [process.pid for process in self.processes if process.pid is not None]

    async def until_ready(self) -> None:
        """Wait until all of them consume requests; raises EmbeddedServerError."""
        for process in self.processes:
            await process.until(partial(_is_ready, process), START_SECONDS)

    def require_running(self) -> None:
        for process in self.processes:
            if not process.running:
                log = process.log.read_text()[-2_000:]
                raise BenchmarkFailed(f"a contestant stopped by itself; its log ends with:\n{log}")

    def peak_memory_mib(self) -> float | None:
        """The peak memory of the largest process."""
        peaks = [probes.memory_mib(pid, "VmHWM") for pid in self.pids]
        return max((peak for peak in peaks if peak is not None), default=None)

    async def stop(self) -> None:
        await asyncio.gather(*(process.terminate(STOP_SECONDS) for process in self.processes))

    def commits_and_conflicts(self) -> tuple[int, int]:
        """Commits and conflicts as the processes counted them, known after they stopped."""
        found = [_TOTALS.findall(process.log.read_text()) for process in self.processes]
        if not all(found):
            raise BenchmarkFailed("a contestant did not stop gracefully")
        return sum(int(t[-1][0]) for t in found), sum(int(t[-1][1]) for t in found)


async def _is_ready(process: ServerProcess) -> bool:
    return _READY.search(process.log.read_text()) is not None


def _sample(
    before: _Counters,
    after: _Counters,
    group: ProcessGroup,
    peak: float | None,
    latencies: list[float],
) -> Sample:
    requests = after.outcomes - before.outcomes
    worker, rabbitmq, mongod = (
        None if start is None or end is None else (end - start) / requests * 1e6
        for start, end in zip(before.cpu_seconds, after.cpu_seconds, strict=True)
    )
    commits, conflicts = group.commits_and_conflicts()
    return Sample(
        requests=requests,
        seconds=after.at - before.at,
        worker_cpu_us=worker,
        rabbitmq_cpu_us=rabbitmq,
        mongod_cpu_us=mongod,
        commits=commits,
        conflicts=conflicts,
        peak_memory_mib=peak,
        latency_p50_ms=_percentile_ms(latencies, 50),
        latency_p99_ms=_percentile_ms(latencies, 99),
    )


def _percentile_ms(sorted_seconds: list[float], percent: int) -> float | None:
    if not sorted_seconds:
        return None
    return sorted_seconds[min(len(sorted_seconds) * percent // 100, len(sorted_seconds) - 1)] * 1e3
