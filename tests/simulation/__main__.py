"""``make simulate``: many seeds with a progress bar, or one of them step by step.

``make simulate SEEDS=400000`` reports the seeds that fail and how to run each again; ``make
simulate SEED=17`` prints every step of one.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from tests.simulation.plan import Plan, plan_of
from tests.simulation.process import PROCESS
from tests.simulation.running import Tally, run_seeds
from tests.simulation.simulation import simulate

FAILURES_MAX: Final = 20
"""Stop after this many failing seeds: more of them rarely say anything new."""

STYLES: Final = {"!": "yellow", "broker": "cyan", "mongod": "magenta", "world": "bold"}


def main() -> int:
    """Run what the command line asks for; returns 1 if there were findings."""
    parser = argparse.ArgumentParser(prog="make simulate", description=__doc__)
    parser.add_argument("--seed", type=int, help="run this one, step by step")
    parser.add_argument(
        "--seeds", type=int, default=10_000, help="number of seeds (default: 10000)"
    )
    parser.add_argument("--first", type=int, default=0, help="the first seed (default: 0)")
    parser.add_argument("--processes", type=int, help="default: one per core")
    arguments = parser.parse_args()
    console = Console(highlight=False, soft_wrap=True)
    if arguments.seed is not None:
        return trace_seed(console, arguments.seed)
    return run_many(console, arguments.first, arguments.seeds, arguments.processes)


def run_many(console: Console, first: int, count: int, processes: int | None) -> int:
    """Run many worlds and show a summary."""
    total = Tally()
    began = time.monotonic()
    columns = (
        TextColumn("simulating"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]} seeds/s, {task.fields[failing]} failing"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=count, speed="0", failing=0)
        for tally in run_seeds(first, count, processes):
            total.add(tally)
            for seed, findings in tally.failures:
                console.print(f"[red]seed {seed}[/]: {len(findings)} findings, the first is:")
                console.print(f"  {findings[0]}", markup=False)
                console.print(f"  run it again with: make simulate SEED={seed}")
            speed = f"{total.seeds / (time.monotonic() - began):,.0f}"
            failing = len(total.failures)
            progress.update(task, advance=tally.seeds, speed=speed, failing=failing)
            if failing >= FAILURES_MAX:
                console.print(f"stopped after {failing} failing seeds")
                break
    console.print(incident_table(total))
    console.print(
        f"{total.seeds:,} worlds, {total.steps:,} steps, {time.monotonic() - began:,.0f} s: "
        + (f"[red]{len(total.failures)} failed[/]" if total.failures else "all invariants hold")
    )
    return 1 if total.failures else 0


def incident_table(tally: Tally) -> Table:
    """How often each kind of incident occurred."""
    table = Table(title="incidents in these worlds")
    for _ in range(2):
        table.add_column("incident")
        table.add_column("times", justify="right")
    cells = [(kind, f"{count:,}") for kind, count in sorted(tally.incidents.items())]
    cells += [("", "")] * (len(cells) % 2)
    half = len(cells) // 2
    for left, right in zip(cells[:half], cells[half:], strict=True):
        table.add_row(*left, *right)
    return table


def trace_seed(console: Console, seed: int) -> int:
    """Print every step of one world, and the auditor's findings."""
    show_plan(console, plan_of(seed))

    def show(at_seconds: float, who: str, what: str) -> None:
        style = STYLES.get(who, "dim" if who.startswith("worker") else "")
        console.print(f"{at_seconds:10.4f}  {who:<12} {what}", style=style, markup=False)

    class Handler(logging.Handler):
        """Prints the workers' own log lines among the steps."""

        def emit(self, record: logging.LogRecord) -> None:
            if (process := PROCESS.get(None)) is not None:
                show(process.world.now_seconds, process.name, record.getMessage())

    logging.basicConfig(level=logging.INFO, handlers=[Handler()])
    result = simulate(seed, trace=show)
    for finding in result.findings:
        console.print(finding, style="red", markup=False)
    console.print(f"seed {seed}: {len(result.findings)} findings in {result.steps} steps")
    return 1 if result.findings else 0


def show_plan(console: Console, plan: Plan) -> None:
    """Print what the world consists of."""
    console.print(f"{plan.workers} workers with batches of {plan.batch_size}")
    console.print(f"{plan.fault_rates}", markup=False)
    for movie in plan.movies.values():
        console.print(f"{movie}", markup=False)


if __name__ == "__main__":
    sys.exit(main())
