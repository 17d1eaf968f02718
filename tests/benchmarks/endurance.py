"""A very large number of requests through one process: does its memory stay constant?

The queue is kept filled meanwhile, and events are purged as they are counted, so that nothing but
the worker and its ledger can grow.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Final

from rich.progress import TaskID
from rich.table import Table

from tests.benchmarks import probes
from tests.benchmarks.database import open_database
from tests.benchmarks.failures import BenchmarkFailed
from tests.benchmarks.harness import WORKER, Case, ProcessGroup
from tests.benchmarks.results import UNKNOWN, shown
from tests.benchmarks.rounds import Run
from tests.benchmarks.traffic import PUBLISH_CHUNK
from tests.benchmarks.workloads import SPREAD

DATABASE: Final = "benchmark-endurance"
BACKLOG: Final = 20_000
"""Requests in the queue: more than the worker consumes between two polls."""
POLL_SECONDS: Final = 0.1
SAMPLE_SECONDS: Final = 2
SLOPE_REQUESTS: Final = 100_000
SLOPE_POINTS_MIN: Final = 2
NO_OUTCOME_SECONDS_MAX: Final = 60


@dataclass(frozen=True, slots=True)
class MemorySample:
    """The resident memory of the worker after so many outcomes."""

    seconds: float
    outcomes: int
    memory_mib: float | None


@dataclass(frozen=True, slots=True)
class Endurance:
    """The whole run."""

    requests: int
    seconds: float
    samples: Sequence[MemorySample]

    @property
    def slope_mib(self) -> float | None:
        """MiB per SLOPE_REQUESTS requests over the second half, when all caches are full."""
        known = [
            (sample.outcomes, sample.memory_mib)
            for sample in self.samples[len(self.samples) // 2 :]
            if sample.memory_mib is not None
        ]
        if len(known) < SLOPE_POINTS_MIN:
            return None
        outcomes, memory = zip(*known, strict=True)
        if len(set(outcomes)) < SLOPE_POINTS_MIN:
            return None
        return statistics.linear_regression(outcomes, memory).slope * SLOPE_REQUESTS


async def measure_endurance(run: Run, requests: int) -> Endurance:
    """Send so many requests, for a thousand movies, through one process."""
    case = Case(WORKER, SPREAD, database=DATABASE)
    task = run.progress.add_task(str(case), step="", total=requests)
    async with open_database(run.servers.mongodb_uri, DATABASE) as stored:
        await stored.insert_movies(case.workload)
        await run.traffic.purge()
        async with run.harness.started(case, DATABASE) as group:
            await group.until_ready()
            found = await _run(run, group, requests, task)
        await stored.check_consistency()
    run.progress.remove_task(task)
    return found


async def _run(run: Run, group: ProcessGroup, requests: int, task: TaskID) -> Endurance:
    new_requests = SPREAD.requests(seed=0)
    started = last_outcome = time.monotonic()
    samples = [MemorySample(0, 0, _memory_mib(group))]
    published = done = 0
    while done < requests:
        now = time.monotonic()
        if more := await run.traffic.drain_outcomes():
            done += more
            last_outcome = now
        group.require_running()
        if now - last_outcome > NO_OUTCOME_SECONDS_MAX:
            raise BenchmarkFailed(f"{requests - done} of {requests} outcomes are missing")
        if now - started - samples[-1].seconds >= SAMPLE_SECONDS:
            samples.append(MemorySample(now - started, done, _memory_mib(group)))
            run.progress.update(task, completed=done)
            run.progress.refresh()
        if published < min(requests, done + BACKLOG):
            chunk = min(PUBLISH_CHUNK, requests - published)
            await run.traffic.publish(new_requests, chunk)
            published += chunk
        else:
            await asyncio.sleep(POLL_SECONDS)
    seconds = time.monotonic() - started
    samples.append(MemorySample(seconds, done, _memory_mib(group)))
    return Endurance(requests, seconds, samples)


def _memory_mib(group: ProcessGroup) -> float | None:
    return probes.memory_mib(group.pids[0], "VmRSS")


def table(found: Endurance) -> Table:
    """Memory at the start, at its peak and at the end, and its slope."""
    memory = [sample.memory_mib for sample in found.samples if sample.memory_mib is not None]
    slope = found.slope_mib
    lines = Table(title=f"{found.requests:,} requests through one process", title_justify="left")
    for name in ("seconds", "requests/s", "start MiB", "max MiB", "end MiB", "MiB per 100,000"):
        lines.add_column(name, justify="right")
    lines.add_row(
        shown(found.seconds),
        shown(found.requests / found.seconds),
        *map(shown, (memory[0], max(memory), memory[-1]) if memory else (None, None, None)),
        UNKNOWN if slope is None else f"{slope:+.2f}",
    )
    return lines


def as_json(found: Endurance) -> dict[str, object]:
    """The run with all its samples."""
    return {**asdict(found), "slope_mib_per_100000_requests": found.slope_mib}
