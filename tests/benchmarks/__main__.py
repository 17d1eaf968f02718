"""``python -m tests.benchmarks``, which is ``make bench``: what to measure, and where it goes."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import uvloop
from rich.console import Console

from tests.benchmarks import chart, comparison, endurance, growth, probes, results
from tests.benchmarks.failures import BenchmarkFailed
from tests.benchmarks.harness import Timing
from tests.benchmarks.rounds import Plan, Run, open_run
from worker.errors import WorkerError

FULL: Final = Plan(3, Timing(warm_up_seconds=1, measured_seconds=5, latency_seconds=5))
QUICK: Final = Plan(1, Timing(warm_up_seconds=0.3, measured_seconds=1, latency_seconds=1), True)
COLUMNS_MIN: Final = 130
"""The width of output that is not a terminal."""
MILLION: Final = 1_000_000


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what was asked for; returns 1 if a contestant failed."""
    options = _parser().parse_args(arguments)
    console = Console(width=None if sys.stdout.isatty() else COLUMNS_MIN)
    try:
        uvloop.run(_measure(options, console))
    except (BenchmarkFailed, WorkerError) as failure:
        print(f"the benchmark failed: {failure}", file=sys.stderr)
        return 1
    return 0


async def _measure(options: argparse.Namespace, console: Console) -> None:
    started = time.monotonic()
    plan = QUICK if options.quick else FULL
    timing = plan.timing
    if options.growth:
        timing = Timing(timing.warm_up_seconds, timing.measured_seconds, latency_seconds=0)
    plan = Plan(options.rounds or plan.rounds, timing, plan.quick)
    found: dict[str, object] = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": probes.machine(),
        "rounds": plan.rounds,
    }
    async with open_run(console) as run:
        if options.million:
            endurance_found = await endurance.measure_endurance(run, options.million)
            console.print(endurance.table(endurance_found))
            found["endurance"] = endurance.as_json(endurance_found)
        if options.growth:
            found["growth"] = growth.as_json(await growth.measure_growth(run, plan))
        if not options.million and not options.growth:
            found["comparison"] = await _compare(run, plan, options)
    found["seconds"] = time.monotonic() - started
    console.print(f"{found['seconds']:.0f} s in all")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


async def _compare(run: Run, plan: Plan, options: argparse.Namespace) -> object:
    cases = comparison.cases(options.only or (), quick=plan.quick)
    compared = await run.measure(cases, plan)
    run.console.print(results.comparison_table(compared))
    if options.plot:
        options.plot.write_text(chart.chart(compared))
    return results.as_json(compared)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="make bench ARGS=…",
        description="Measures the worker beside an ordinary echo, a batched echo and the sketch.",
    )
    parser.add_argument("--quick", action="store_true", help="one short round, under two minutes")
    parser.add_argument("--rounds", type=int, help=f"default: {FULL.rounds}")
    parser.add_argument(
        "--only", action="append", choices=comparison.CONTESTANTS, help="may be repeated"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="every figure")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="the comparison as an SVG")
    parser.add_argument("--growth", action="store_true", help="collections, movies, batches")
    parser.add_argument(
        "--million",
        type=int,
        nargs="?",
        const=MILLION,
        metavar="REQUESTS",
        help="memory over so many requests (1000000) through one process",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
