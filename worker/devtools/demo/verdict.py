"""The table at the end of the demo: what the auditor found, and how much it looked at.

Refuses to judge anything: that is the auditor's. Here its findings are only grouped and counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from worker.devtools.auditor import Document, Evidence, Finding, Kind

VIOLATIONS_SHOWN_MAX: Final = 5
"""Of each row: enough to see what went wrong, and the table stays on the screen."""

OVERBOOKED: Final = "overbooked slots"
LOST: Final = "lost requests"
CONTRADICTORY: Final = "contradictory outcomes"
BOOKED_COUNT: Final = "bookedCount unlike the confirmed people"
DEAD_LETTERS: Final = "dead letters missing or without cause"
LEFT_IN_QUEUE: Final = "requests left in the queue"

ROWS: Final[Mapping[str, Sequence[Kind]]] = {
    OVERBOOKED: (Kind.OVERBOOKED,),
    LOST: (Kind.NOT_RECORDED, Kind.NOT_SENT, Kind.NOT_ANNOUNCED),
    CONTRADICTORY: (
        Kind.OTHER_CONTENT,
        Kind.WRONG_OUTCOME,
        Kind.WRONG_SEATS,
        Kind.EVENT_WITHOUT_OUTCOME,
        Kind.EVENTS_DIFFER,
        Kind.EVENT_UNLIKE_LEDGER,
    ),
    BOOKED_COUNT: (Kind.SEATS_DIFFER, Kind.VERSIONS_DIFFER),
    DEAD_LETTERS: (Kind.DEAD_LETTER_MISSING, Kind.DEAD_LETTER_WITHOUT_CAUSE),
    LEFT_IN_QUEUE: (Kind.LEFT_IN_QUEUE,),
}
"""The rows of the table by their titles, each with the kinds of violations that it counts."""


def verdict(evidence: Evidence, findings: Sequence[Finding], request_count: int) -> RenderableType:
    """The findings as a table, with the first few violations of each row below it.

    ``request_count`` is how many different request ids were sent.
    """
    table = Table(title="audit, from outside", title_justify="left", min_width=72)
    table.add_column("must be 0")
    table.add_column("is", justify="right")
    table.add_column("of")
    figures = _figures(evidence, request_count)
    details: list[str] = []
    for title, kinds in ROWS.items():
        violations = [finding for finding in findings if finding.kind in kinds]
        colour = "red" if violations else "green"
        table.add_row(title, f"[{colour}]{len(violations)}[/]", figures.get(title, ""))
        details += [f"  {v.kind}: {v.what}" for v in violations[:VIOLATIONS_SHOWN_MAX]]
    return Group(table, *(Text(detail, style="red") for detail in details))


def _figures(evidence: Evidence, request_count: int) -> dict[str, str]:
    """How much each row looked at, by its title."""
    slots = [slot for movie in evidence.after for slot in movie["timeSlots"]]
    full = sum(_booked(slot) == slot["capacity"] for slot in slots)
    confirmed = [entry for entry in evidence.ledger if entry["outcome"] == "confirmed"]
    people = sum(entry["numberOfPeople"] for entry in confirmed)
    return {
        OVERBOOKED: f"{len(slots)} slots, {full} of them full to the last seat",
        LOST: f"{request_count:,} request ids sent, {len(evidence.ledger):,} recorded",
        CONTRADICTORY: _counted(entry.get("reason", entry["outcome"]) for entry in evidence.ledger),
        BOOKED_COUNT: f"{sum(map(_booked, slots)):,} seats booked, {people:,} people confirmed",
        DEAD_LETTERS: _counted(error for error, _ in evidence.dead_letters),
    }


def _booked(slot: Document) -> int:
    return int(slot.get("bookedCount", 0))


def _counted(names: Iterable[str]) -> str:
    counts = Counter(names).most_common()
    return ", ".join(f"{count:,} {name}" for name, count in counts) or "none"
