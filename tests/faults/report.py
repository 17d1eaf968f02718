"""What came of it: a table for a terminal, and the same for a README."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from rich.table import Table

from tests.faults.trial import Result


def _seconds(value: float | None) -> str:
    return "never" if value is None else f"{value:.1f}"


Cell = Callable[[Result], str]

COLUMNS: Final[tuple[tuple[str, Cell], ...]] = (
    ("fault", lambda result: result.fault.what),
    ("broken s", lambda result: f"{result.held_seconds:.0f}"),
    ("silence s", lambda result: f"{result.silence_seconds:.1f}"),
    ("requests", lambda result: f"{result.requests:,}"),
    ("confirmed", lambda result: f"{result.outcomes['confirmed']:,}"),
    ("rejected", lambda result: f"{result.outcomes['rejected']:,}"),
    ("dead letters", lambda result: f"{result.given_up:,}"),
    ("duplicates", lambda result: f"{result.duplicates:,}"),
    ("first outcome s", lambda result: _seconds(result.first_outcome_seconds)),
    ("all consume s", lambda result: _seconds(result.consuming_seconds)),
    ("lost", lambda result: str(result.lost)),
    ("contradictory", lambda result: str(result.contradictory)),
    ("seats wrong", lambda result: str(result.seats_wrong)),
    ("overbooked", lambda result: str(result.overbooked)),
)
"""The heading of each column, and what stands in it."""


CAPTION: Final = (
    "One request in ten is sent twice on purpose. Silence is the longest time without any outcome; "
    "the seconds after it count from the repair."
)


def table(results: Sequence[Result]) -> Table:
    """For a terminal, with what failed in red."""
    drawn = Table(title="faults under load: after each, everything was audited", caption=CAPTION)
    for number, (heading, _) in enumerate(COLUMNS):
        drawn.add_column(heading, justify="left" if number == 0 else "right", ratio=None)
    for result in results:
        style = None if result.passed else "bold red"
        drawn.add_row(*(cell(result) for _, cell in COLUMNS), style=style)
    drawn.add_section()
    drawn.add_row(*_totals(results), style="bold")
    return drawn


def markdown(results: Sequence[Result]) -> str:
    """For a README."""
    rows = [
        [heading for heading, _ in COLUMNS],
        ["---"] + ["--:"] * (len(COLUMNS) - 1),
        *([cell(result) for _, cell in COLUMNS] for result in results),
        [f"**{cell}**" if cell else "" for cell in _totals(results)],
    ]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def one_line(result: Result) -> str:
    """For the progress: what happened, and how it ended."""
    verdict = "[green]ok[/]" if result.passed else "[bold red]FAILED[/]"
    return (
        f"{verdict} {result.fault.name}: {result.requests:,} requests, first outcome after "
        f"{_seconds(result.first_outcome_seconds)} s, all consume after "
        f"{_seconds(result.consuming_seconds)} s"
    )


def _totals(results: Sequence[Result]) -> list[str]:
    """Sums, but the longest of what took time."""
    first = [r.first_outcome_seconds for r in results if r.first_outcome_seconds is not None]
    consuming = [r.consuming_seconds for r in results if r.consuming_seconds is not None]
    return [
        f"{len(results)} faults: in all, at most",
        f"{sum(result.held_seconds for result in results):.0f}",
        f"{max(result.silence_seconds for result in results):.1f}",
        f"{sum(result.requests for result in results):,}",
        f"{sum(result.outcomes['confirmed'] for result in results):,}",
        f"{sum(result.outcomes['rejected'] for result in results):,}",
        f"{sum(result.given_up for result in results):,}",
        f"{sum(result.duplicates for result in results):,}",
        _seconds(max(first, default=None)),
        _seconds(max(consuming, default=None)),
        str(sum(result.lost for result in results)),
        str(sum(result.contradictory for result in results)),
        str(sum(result.seats_wrong for result in results)),
        str(sum(result.overbooked for result in results)),
    ]
