"""Rounds: every contest once, then every contest again, so that a slow minute hits all alike."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tests.benchmarks.arena import Arena, Contest, Sample, Timing
from tests.benchmarks.results import Result, shown
from tests.benchmarks.traffic import Traffic, traffic
from worker.devtools.servers import EmbeddedServers, embedded_servers

CACHE: Final = "cache_size=4G"
"""Of MongoDB, which takes half of a machine's memory by default; the half gigabyte that is enough
for a demo would measure how a million ledger entries are written to the disk and read again."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is to be measured."""

    rounds: int
    timing: Timing
    quick: bool = False


@dataclass(frozen=True, slots=True)
class Stadium:
    """The servers, the traffic and the arena of one run."""

    servers: EmbeddedServers
    traffic: Traffic
    arena: Arena
    console: Console
    progress: Progress

    async def play(self, contests: Sequence[Contest], plan: Plan) -> list[Result]:
        """All rounds of these contests, each round in the opposite order of the last."""
        samples: dict[Contest, list[Sample]] = {contest: [] for contest in contests}
        task = self.progress.add_task("", step="", total=plan.rounds * len(contests))
        for number in range(plan.rounds):
            for contest in contests if number % 2 == 0 else reversed(contests):
                self.progress.update(task, description=f"round {number + 1}: {contest}")
                sample = await self.arena.measure(contest, plan.timing)
                samples[contest].append(sample)
                self.progress.advance(task)
                rate = shown(sample.requests_per_second)
                self.progress.print(f"round {number + 1}: {contest}: {rate} requests/s")
        self.progress.remove_task(task)
        return [Result(contest, samples[contest]) for contest in contests]


@asynccontextmanager
async def stadium(console: Console) -> AsyncIterator[Stadium]:
    """Servers for one run, in a folder that goes with them."""
    # The bar is drawn when there is news and not ten times a second: drawing takes time from
    # those who are being measured.
    progress = Progress(
        TextColumn("{task.description}"),
        TextColumn("[dim]{task.fields[step]}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        auto_refresh=False,
    )

    def tick(step: str) -> None:
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
            arena = Arena(servers, outside, folder / "contestants", tick)
            with progress:
                yield Stadium(servers, outside, arena, console, progress)
