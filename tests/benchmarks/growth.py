"""How the worker's throughput changes with the size of collections, movies and batches.

Each series has one line for each size, on the hot movie and on a thousand movies; the first line is
the reference for the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from rich.table import Table

from tests.benchmarks.database import open_database
from tests.benchmarks.harness import WORKER, Case
from tests.benchmarks.results import UNKNOWN, Result, medians, shown
from tests.benchmarks.rounds import Plan, Run
from tests.benchmarks.workloads import Workload

CATALOGUE: Final = 100_000
LEDGER: Final = 1_000_000
QUICK_DIVISOR: Final = 10
MOVIES_ASKED_FOR: Final = 1_000
TIME_SLOTS: Final = (1, 10, 50, 200)
BATCH_SIZES: Final = (1, 10, 100, 500, 2_000)
GROWN_DATABASE: Final = "benchmark-grown"


@dataclass(frozen=True, slots=True)
class Line:
    """One size, on both workloads."""

    label: str
    hot: Case
    spread: Case


@dataclass(frozen=True, slots=True)
class Series:
    """One quantity in several sizes."""

    title: str
    lines: Sequence[Line]


async def measure_growth(run: Run, plan: Plan) -> list[tuple[Series, list[Result]]]:
    """Measure all series; prints each as soon as it is complete."""
    grown = Workload("hot", catalogue=CATALOGUE // (QUICK_DIVISOR if plan.quick else 1))
    entries = LEDGER // (QUICK_DIVISOR if plan.quick else 1)
    measured = []
    async with open_database(run.servers.mongodb_uri, GROWN_DATABASE) as stored:
        task = run.progress.add_task(
            f"inserting {grown.catalogue:,} movies and {entries:,} ledger entries",
            step="",
            total=None,
        )
        run.progress.refresh()
        await stored.insert_movies(grown)
        await stored.insert_entries(entries)
        run.progress.remove_task(task)
        for series in (_collections(grown.catalogue, entries), _time_slots(), _batch_sizes()):
            cases = [case for line in series.lines for case in (line.hot, line.spread)]
            results = await run.measure(cases, plan)
            run.console.print(_table(series, results))
            measured.append((series, results))
    return measured


def _collections(catalogue: int, entries: int) -> Series:
    return Series(
        "collections",
        (
            _line("nothing else in the collections"),
            _line(
                f"{catalogue:,} movies, {entries:,} ledger entries",
                catalogue=catalogue,
                database=GROWN_DATABASE,
            ),
        ),
    )


def _time_slots() -> Series:
    lines = [_line(f"{count} time slots", time_slots=count) for count in TIME_SLOTS]
    return Series("time slots per movie", lines)


def _batch_sizes() -> Series:
    lines = [_line(f"batches of {size}", batch_size=size) for size in BATCH_SIZES]
    return Series("batch size", lines)


def _line(
    label: str,
    *,
    catalogue: int = 0,
    time_slots: int = 5,
    batch_size: int | None = None,
    database: str | None = None,
) -> Line:
    def case(name: str, movies: int) -> Case:
        workload = Workload(
            f"{name}, {label}", movies=movies, time_slots=time_slots, catalogue=catalogue
        )
        return Case(WORKER, workload, batch_size=batch_size, database=database)

    return Line(label, case("hot", 1), case("spread", MOVIES_ASKED_FOR))


def _table(series: Series, results: Sequence[Result]) -> Table:
    table = Table(title=f"growth: {series.title}", title_justify="left")
    table.add_column("")
    for workload in ("hot", "spread"):
        for name in ("requests/s", "ratio", "CPU µs worker", "mongod"):
            table.add_column(f"{workload}\n{name}", justify="right")
    by_case = {result.case: result for result in results}
    for line in series.lines:
        cells: list[str] = []
        first = series.lines[0]
        for case, base in ((line.hot, first.hot), (line.spread, first.spread)):
            result = by_case[case]
            figures = medians(result)
            base_rate = by_case[base].rate
            cells += (
                shown(result.rate),
                f"{result.rate / base_rate:.2f}" if base_rate else UNKNOWN,
                shown(figures["worker_cpu_us"]),
                shown(figures["mongod_cpu_us"]),
            )
        table.add_row(line.label, *cells)
    return table


def as_json(measured: Sequence[tuple[Series, list[Result]]]) -> list[dict[str, object]]:
    """Every line of every series, with the medians of both workloads."""
    found: list[dict[str, object]] = []
    for series, results in measured:
        by_case = {result.case: result for result in results}
        found += (
            {
                "series": series.title,
                "size": line.label,
                "hot": medians(by_case[line.hot]),
                "spread": medians(by_case[line.spread]),
            }
            for line in series.lines
        )
    return found
