"""Rounds: every case once, then every case again, so that a slow minute affects all alike."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tests.benchmarks.harness import Case, Harness, Sample, Timing
from tests.benchmarks.results import Result, shown
from tests.benchmarks.traffic import Traffic, traffic
from worker.devtools.servers import EmbeddedServers, embedded_servers

CACHE: Final = "cache_size=4G"
"""MongoDB's cache, by default half of a machine's memory. With the half gigabyte that is enough for
a demo, the benchmark would measure how a million ledger entries are evicted and read again."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is to be measured."""

    rounds: int
    timing: Timing
    quick: bool = False


@dataclass(frozen=True, slots=True)
class Run:
    """The servers, the traffic and the harness of one benchmark run."""

    servers: EmbeddedServers
    traffic: Traffic
    harness: Harness
    console: Console
    progress: Progress

    async def measure(self, cases: Sequence[Case], plan: Plan) -> list[Result]:
        """Measure these cases in rounds, each in the opposite order of the last."""
        samples: dict[Case, list[Sample]] = {case: [] for case in cases}
        task = self.progress.add_task("", step="", total=plan.rounds * len(cases))
        for number in range(plan.rounds):
            for case in cases if number % 2 == 0 else reversed(cases):
                self.progress.update(task, description=f"round {number + 1}: {case}")
                sample = await self.harness.measure(case, plan.timing)
                samples[case].append(sample)
                self.progress.advance(task)
                rate = shown(sample.requests_per_second)
                self.progress.print(f"round {number + 1}: {case}: {rate} requests/s")
        self.progress.remove_task(task)
        return [Result(case, samples[case]) for case in cases]


@asynccontextmanager
async def open_run(console: Console) -> AsyncIterator[Run]:
    """Start servers for one run, in a temporary folder."""
    # The bar is redrawn only when something has changed, and not ten times a second: drawing takes
    # processor time from the contestants.
    progress = Progress(
        TextColumn("{task.description}"),
        TextColumn("[dim]{task.fields[step]}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        auto_refresh=False,
    )

    def show_step(step: str) -> None:
        for task_id in progress.task_ids:
            progress.update(task_id, step=step)
        progress.refresh()

    console.print("starting a real RabbitMQ and a real MongoDB …")
    with TemporaryDirectory(prefix="reservation-benchmark-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        async with (
            embedded_servers(folder / "servers") as servers,
            traffic(servers.amqp_url) as outside,
        ):
            async with servers.mongo.members[0].admin() as admin:
                await admin.command("setParameter", 1, wiredTigerEngineRuntimeConfig=CACHE)
            harness = Harness(servers, outside, folder / "contestants", show_step)
            with progress:
                yield Run(servers, outside, harness, console, progress)
