"""The auditor of the end state names each violation by its kind, and finds nothing else.

Each forgery changes good evidence in one place; beside it stands every finding it must cause.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from tests.unit.end_state import (
    REUSED,
    Case,
    confirmed,
    encoded,
    event,
    invalid,
    rejected,
    request,
    slot,
)
from worker.devtools import auditor
from worker.devtools.auditor import Kind

Forgery = Callable[[Case], object]
Row = tuple[str, Forgery, list[Kind]]


def table(*rows: Row) -> pytest.MarkDecorator:
    """A test for each forgery and the findings that it must cause."""
    params = [pytest.param(forge, sorted(kinds), id=name) for name, forge, kinds in rows]
    return pytest.mark.parametrize(("forge", "kinds"), params)


def found(forge: Forgery) -> list[Kind]:
    case = Case()
    forge(case)
    return case.found()


@table(
    ("nothing", lambda _: None, []),
    ("an event again", lambda c: c.repeated.update(b=1), []),
    ("a dead letter again", lambda c: c.dead_letters.append(c.dead_letters[0]), []),
    ("a rejection ahead of a commit", lambda c: c.forge("late", seatsAvailable=4), []),
    ("a rejection inside a commit", lambda c: c.forge("late", seatsAvailable=3), []),
    ("a movie without bookings", lambda c: c.after["timeSlots"][3].pop("bookedCount"), []),
)
def test_what_is_allowed_is_no_finding(forge: Forgery, kinds: list[Kind]) -> None:
    assert found(forge) == kinds


@table(
    ("over capacity", lambda c: c.forge_slot(1, capacity=9), [Kind.OVERBOOKED]),
    (
        "below none",
        lambda c: c.forge_slot(4, bookedCount=-1).before["timeSlots"][3].update(bookedCount=-1),
        [Kind.OVERBOOKED],
    ),
    ("seats lost", lambda c: c.forge_slot(1, bookedCount=9), [Kind.SEATS_DIFFER]),
    ("seats taken by nobody", lambda c: c.forge_slot(4, bookedCount=1), [Kind.SEATS_DIFFER]),
    (
        "seats taken before",
        lambda c: c.before["timeSlots"][3].update(bookedCount=1),
        [Kind.SEATS_DIFFER],
    ),
    (
        "a slot with seats",
        lambda c: c.after["timeSlots"].append(slot(5, 4, 1)),
        [Kind.SEATS_DIFFER],
    ),
    (
        "a slot gone with what was booked",
        lambda c: (c.after["timeSlots"].pop(3), c.before["timeSlots"][3].update(bookedCount=1)),
        [Kind.SEATS_DIFFER],
    ),
    (
        "a slot gone with what was confirmed",
        lambda c: c.after["timeSlots"].pop(1),
        [Kind.SEATS_DIFFER],
    ),
    (
        "seats in a slot that never was",
        lambda c: c.ledger.update(slot=confirmed(1, 9, version=5, left=7)),
        [Kind.SEATS_DIFFER, Kind.WRONG_OUTCOME],
    ),
)
def test_seats_must_be_those_of_the_ledger(forge: Forgery, kinds: list[Kind]) -> None:
    assert found(forge) == kinds


@table(
    ("raised for nothing", lambda c: c.after.update(version=6), [Kind.VERSIONS_DIFFER]),
    ("not raised", lambda c: c.before.update(version=4), [Kind.VERSIONS_DIFFER]),
    (
        "one for two commits",
        lambda c: [c.forge(name, movieVersion=4) for name in "cde"],
        [Kind.VERSIONS_DIFFER],
    ),
    ("confirmed later", lambda c: c.forge("c", movieVersion=6), [Kind.VERSIONS_DIFFER]),
    ("rejected later", lambda c: c.forge("slot", movieVersion=6), [Kind.VERSIONS_DIFFER]),
    ("rejected earlier", lambda c: c.forge("slot", movieVersion=2), [Kind.VERSIONS_DIFFER]),
    ("rejected at none", lambda c: c.forge("slot", "movieVersion"), [Kind.VERSIONS_DIFFER]),
)
def test_versions_must_be_those_of_the_commits(forge: Forgery, kinds: list[Kind]) -> None:
    assert found(forge) == kinds


@table(
    ("no entry", lambda c: c.ledger.pop("b"), [Kind.NOT_RECORDED]),
    ("no request", lambda c: c.sent.pop("b"), [Kind.NOT_SENT]),
    ("another movie", lambda c: c.forge("movie", movieId="alien"), [Kind.OTHER_CONTENT]),
    ("another slot", lambda c: c.forge("movie", timeSlotId=2), [Kind.OTHER_CONTENT]),
    ("other people", lambda c: c.forge("movie", numberOfPeople=2), [Kind.OTHER_CONTENT]),
    (
        "invalid for another reason",
        lambda c: c.ledger.update(people=invalid("timeSlotId", movieId="heat", timeSlotId=2)),
        [Kind.OTHER_CONTENT, Kind.DEAD_LETTER_WITHOUT_CAUSE],
    ),
    (
        "valid though a field of the content is not",
        lambda c: c.forge("people", "errors"),
        [Kind.OTHER_CONTENT, Kind.DEAD_LETTER_WITHOUT_CAUSE],
    ),
    (
        "valid though another field is not",
        lambda c: c.forge("time", "errors"),
        [Kind.OTHER_CONTENT, Kind.DEAD_LETTER_WITHOUT_CAUSE],
    ),
)
def test_every_request_has_its_entry(forge: Forgery, kinds: list[Kind]) -> None:
    assert found(forge) == kinds


@table(
    ("sold out, with room", lambda c: c.forge("b", seatsAvailable=5), [Kind.WRONG_OUTCOME]),
    (
        "sold out, with just enough room",
        lambda c: c.forge("b", numberOfPeople=2).sent.update(b=request("b", 2)),
        [Kind.WRONG_OUTCOME],
    ),
    ("a movie is there", lambda c: c.forge("slot", reason="unknown_movie"), [Kind.WRONG_OUTCOME]),
    ("a movie is not", lambda c: c.forge("movie", reason="expired"), [Kind.WRONG_OUTCOME]),
    (
        "a slot is there",
        lambda c: c.forge("late", reason="unknown_time_slot"),
        [Kind.WRONG_OUTCOME],
    ),
    ("a slot is not", lambda c: c.forge("slot", reason="expired"), [Kind.WRONG_OUTCOME]),
    ("in time", lambda c: c.forge("in-time", reason="expired"), [Kind.WRONG_OUTCOME]),
    ("no time limit", lambda c: c.forge("b", reason="expired"), [Kind.WRONG_OUTCOME]),
    (
        "late",
        lambda c: c.forge_slot(2, bookedCount=3).ledger.update(
            late=confirmed(1, 2, version=5, left=1)
        ),
        [Kind.WRONG_OUTCOME],
    ),
    ("invalid", lambda c: c.forge("people", reason="unknown_movie"), [Kind.WRONG_OUTCOME]),
    ("valid", lambda c: c.forge("movie", reason="invalid_request"), [Kind.WRONG_OUTCOME]),
    ("confirmed and why not", lambda c: c.forge("a", reason="sold_out"), [Kind.WRONG_OUTCOME]),
    ("rejected without why", lambda c: c.forge("b", "reason"), [Kind.WRONG_OUTCOME]),
)
def test_every_outcome_keeps_the_rules(forge: Forgery, kinds: list[Kind]) -> None:
    assert found(forge) == kinds


@table(
    ("confirmed with more left", lambda c: c.forge("a", seatsAvailable=3), [Kind.WRONG_SEATS]),
    ("confirmed with fewer left", lambda c: c.forge("e", seatsAvailable=1), [Kind.WRONG_SEATS]),
    ("confirmed without a word", lambda c: c.forge("a", "seatsAvailable"), [Kind.WRONG_SEATS]),
    (
        "confirmed in another order",
        lambda c: (
            c.forge("a", movieVersion=5).forge("c", movieVersion=4).forge("b", movieVersion=5)
        ),
        [Kind.WRONG_SEATS] * 3,
    ),
    ("rejected with what never was", lambda c: c.forge("b", seatsAvailable=1), [Kind.WRONG_SEATS]),
    ("rejected with what came later", lambda c: c.forge("b", seatsAvailable=0), [Kind.WRONG_SEATS]),
    (
        "rejected with what was before",
        lambda c: c.forge("late", movieVersion=4),
        [Kind.WRONG_SEATS],
    ),
    ("nothing was booked", lambda c: c.forge("early", seatsAvailable=4), [Kind.WRONG_SEATS]),
    ("rejected without a word", lambda c: c.forge("late", "seatsAvailable"), [Kind.WRONG_SEATS]),
)
def test_every_decision_saw_the_seats_left(forge: Forgery, kinds: list[Kind]) -> None:
    assert found(forge) == kinds


@table(
    ("no event", lambda c: c.repeated.update(b=-1), [Kind.NOT_ANNOUNCED]),
    ("one for two messages", lambda c: c.repeated.update(a=-1), [Kind.NOT_ANNOUNCED]),
    (
        "no event, for other content",
        lambda c: c.forge("movie", timeSlotId=2).repeated.update(movie=-1),
        [Kind.OTHER_CONTENT, Kind.NOT_ANNOUNCED],
    ),
    (
        "no entry",
        lambda c: c.events.append(event("ghost", rejected("unknown_movie", 1, 1))),
        [Kind.EVENT_WITHOUT_OUTCOME],
    ),
    (
        "two that differ",
        lambda c: c.events.append(event("b", c.ledger["b"]).replace(b", ", b",")),
        [Kind.EVENTS_DIFFER],
    ),
    ("a field too many", lambda c: c.forge_event("b", x=1), [Kind.EVENT_UNLIKE_LEDGER]),
    ("a field too few", lambda c: c.forge_event("b", "reason"), [Kind.EVENT_UNLIKE_LEDGER]),
    *[
        (
            f"another {name}",
            lambda c, n=name: c.forge_event("b", **{n: "?"}),
            [Kind.EVENT_UNLIKE_LEDGER],
        )
        for name in (*Case().ledger["b"], "decidedAt")
    ],
    ("left in the queue", lambda c: setattr(c, "left_in_queue", 1), [Kind.LEFT_IN_QUEUE]),
)
def test_every_message_is_answered(forge: Forgery, kinds: list[Kind]) -> None:
    assert found(forge) == kinds


MISSING: Final = [Kind.DEAD_LETTER_MISSING]
WITHOUT_CAUSE: Final = [Kind.DEAD_LETTER_WITHOUT_CAUSE]


@table(
    *[(f"{at} missing", lambda c, at=at: c.dead_letters.pop(at), MISSING) for at in range(5)],
    (
        "given up",
        lambda c: c.dead_letters.append(("undeliverable", encoded(REUSED))),
        WITHOUT_CAUSE,
    ),
    ("valid", lambda c: c.dead_letters.append(("invalid_request", c.bodies[0])), WITHOUT_CAUSE),
    ("unused", lambda c: c.dead_letters.append(("request_id_reused", c.bodies[0])), WITHOUT_CAUSE),
    (
        "another error",
        lambda c: c.dead_letters.__setitem__(0, ("invalid_request", encoded(REUSED))),
        [*MISSING, *WITHOUT_CAUSE],
    ),
    (
        "another body",
        lambda c: c.dead_letters.__setitem__(0, ("request_id_reused", b"{}")),
        [*MISSING, *WITHOUT_CAUSE],
    ),
)
def test_dead_letters_are_those_of_undecidable_messages(forge: Forgery, kinds: list[Kind]) -> None:
    assert found(forge) == kinds


def test_the_auditor_shares_no_code_with_what_it_audits() -> None:
    tree = ast.parse(Path(auditor.__file__).read_text())
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {
        (node.module or "") if isinstance(node, ast.ImportFrom) else node.names[0].name
        for node in imports
    }
    assert {name.partition(".")[0] for name in names} <= sys.stdlib_module_names
