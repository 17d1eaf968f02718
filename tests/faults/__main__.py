"""``python -m tests.faults``, which is ``make faults``: which faults, how often, and where to."""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tests.faults import report
from tests.faults.fault import Fault
from tests.faults.matrix import FAULTS, combinations, named
from tests.faults.testbed import MEMBERS, WORKERS, open_testbed
from tests.faults.trial import Result, try_fault
from worker.errors import WorkerError

COMBINATIONS: Final = 6
COLUMNS_MIN: Final = 180
"""For an output that is no terminal."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Let the faults happen that were asked for; 1 if a promise was broken."""
    options = _parser().parse_args(arguments)
    # The client library reports as errors what is done to it here on purpose.
    logging.getLogger("aiormq").setLevel(logging.CRITICAL)
    logging.getLogger("aio_pika").setLevel(logging.CRITICAL)
    console = Console(width=None if sys.stdout.isatty() else COLUMNS_MIN, highlight=False)
    if options.list:
        for fault in FAULTS:
            console.print(f"[bold]{fault.name:24}[/] {fault.what}")
        return 0
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(10**6)
    try:
        results = asyncio.run(_run(_plan(options, seed), seed, console))
    except WorkerError as failure:
        print(f"the faults could not happen: {failure}", file=sys.stderr)
        return 1
    if options.report:
        options.report.write_text(report.markdown(results))
    for result in results:
        for problem in result.problems[:5]:
            console.print(f"[red]{result.fault.name}: {problem}", markup=True)
    console.print(f"seed {seed}")
    return 0 if all(result.passed for result in results) else 1


def _plan(options: argparse.Namespace, seed: int) -> list[Fault]:
    if options.only:
        once = list(options.only)
    else:
        once = [*FAULTS, *combinations(options.combinations, random.Random(seed))]
    rounds: int = options.rounds
    return once * rounds


async def _run(faults: Sequence[Fault], seed: int, console: Console) -> list[Result]:
    started = time.monotonic()
    chance = random.Random(seed)
    results: list[Result] = []
    progress = Progress(
        TextColumn("{task.description}"),
        TextColumn("[dim]{task.fields[step]}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
    )
    console.print(f"starting RabbitMQ, {MEMBERS} members of MongoDB and {WORKERS} workers …")
    async with open_testbed() as testbed:
        with progress:
            task = progress.add_task("", step="", total=len(faults))
            for fault in faults:
                progress.update(task, description=fault.name)
                result = await try_fault(
                    testbed, fault, chance, lambda step: progress.update(task, step=step)
                )
                results.append(result)
                if not result.passed:
                    await testbed.start_over()
                progress.advance(task)
                progress.print(report.one_line(result))
    console.print(report.table(results))
    console.print(f"{time.monotonic() - started:.0f} s in all")
    return results


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="make faults ARGS=…",
        description="Breaks servers, wires and workers under load, and audits what becomes of it.",
    )
    parser.add_argument("--list", action="store_true", help="the faults there are")
    parser.add_argument(
        "--only",
        action="append",
        type=_fault,
        metavar="NAME",
        help='may be repeated; "NAME + NAME" is both at once',
    )
    parser.add_argument("--seed", type=int, help="of whatever is left to chance; it is printed")
    parser.add_argument("--rounds", type=int, default=1, help="of the whole (1)")
    parser.add_argument(
        "--combinations", type=int, default=COMBINATIONS, help=f"drawn by the seed ({COMBINATIONS})"
    )
    parser.add_argument("--report", type=Path, metavar="FILE", help="the table as markdown")
    return parser


def _fault(name: str) -> Fault:
    try:
        return named(name)
    except KeyError as unknown:
        raise argparse.ArgumentTypeError(f"there is no fault {unknown}; see --list") from None


if __name__ == "__main__":
    sys.exit(main())
