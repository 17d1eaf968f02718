"""The table of the demo counts every kind of violation, once, and shows the first ones."""

from __future__ import annotations

from io import StringIO

from rich.console import Console

from worker.devtools.auditor import Evidence, Finding, Kind
from worker.devtools.demo.verdict import ROWS, verdict

NOTHING = Evidence(sent=[], events=[], dead_letters=[], ledger=[], before=[], after=[])


def test_every_kind_of_violation_is_counted_in_one_row() -> None:
    assert sorted(kind for kinds in ROWS.values() for kind in kinds) == sorted(Kind)


def test_a_violation_is_counted_and_named() -> None:
    console = Console(file=StringIO(), width=120)
    console.print(verdict(NOTHING, [Finding(Kind.NOT_ANNOUNCED, "r-1: 0 events, 1 messages")], 1))
    assert isinstance(console.file, StringIO)
    shown = console.file.getvalue()
    row = next(line for line in shown.splitlines() if "lost requests" in line)
    assert [cell.strip() for cell in row.split("│")[2:4]] == ["1", "1 request ids sent, 0 recorded"]
    assert "outcomes that were not announced: r-1: 0 events, 1 messages" in shown
