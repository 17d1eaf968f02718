"""The auditor finds each kind of error, and shares no code with the worker that it audits."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from tests.simulation.auditor import audit
from tests.simulation.evidence import (
    Delivered,
    Discarded,
    Fact,
    MajorityHas,
    Misused,
    Poisonous,
    Published,
    RolledBack,
    Sent,
    Settled,
    Written,
)

ROOT: Final = Path(__file__).parents[2]
START: Final = datetime(2026, 11, 22, 18, 0, tzinfo=UTC)
DECIDED: Final = START + timedelta(seconds=2)

Document = dict[str, Any]
Journal = list[Fact]


def body(name: str = "a", people: object = 3, **others: object) -> bytes:
    request = {"requestId": name, "movieId": "heat", "timeSlotId": 1, "numberOfPeople": people}
    return json.dumps({**request, **others}).encode()


def movie(version: int, booked: int, capacity: int = 10) -> Document:
    slot = {"id": 1, "capacity": capacity, "bookedCount": booked}
    return {"_id": "heat", "version": version, "timeSlots": [slot]}


def entry(name: str, people: int, version: int, left: int, **others: object) -> Document:
    request = {"_id": name, "movieId": "heat", "timeSlotId": 1, "numberOfPeople": people}
    outcome = {"outcome": "confirmed", "movieVersion": version, "seatsAvailable": left}
    return {**request, **outcome, "decidedAt": DECIDED, **others}


def event(recorded: Document, **others: object) -> Published:
    fields = {"requestId": recorded["_id"], **recorded, "decidedAt": "2026-11-22T18:00:02.000Z"}
    del fields["_id"]
    name = f"{recorded['_id']}:{recorded['outcome']}"
    key = f"reservation.{recorded['outcome']}.{recorded.get('movieId', 'invalid')}"
    content = json.dumps({**fields, **others}).encode()
    return Published(5, "reservations.events", key, name, {"ce-id": name}, content)


def dead_letter(error: str, of: bytes) -> Published:
    headers = {"x-reservation-error": error}
    return Published(5, "reservations.dead-letters", "", None, headers, of)


SOLD_OUT: Final = {"outcome": "rejected", "reason": "sold_out"}
A: Final = entry("a", 3, 8, 2)
B: Final = entry("b", 3, 8, 2, **SOLD_OUT)


def good_journal() -> Journal:
    """Two requests for a slot with five seats left: one is confirmed, the other is sold out."""
    return [
        Written(0, "other", {"heat": movie(7, 5)}, {}),
        MajorityHas(0, 1),
        Sent(1, 1, body("a")),
        Sent(1, 2, body("b")),
        Delivered(1, 1, "w", 0),
        Delivered(1, 2, "w", 0),
        Written(3, "worker", {"heat": movie(8, 8)}, {"a": A, "b": B}),
        MajorityHas(4, 2),
        event(A),
        event(B),
        Settled(6, 1, "w"),
        Settled(6, 2, "w"),
    ]


WRITTEN, MAJORITY, EVENT_A, EVENT_B, SETTLED_A, SETTLED_B = range(6, 12)


def test_a_correct_journal_has_no_findings() -> None:
    assert audit(good_journal(), START) == []


def forgery(expected: str, change: Callable[[Journal], object], name: str) -> object:
    return pytest.param(expected, change, id=name)


def put(position: int, fact: Fact) -> Callable[[Journal], object]:
    return lambda journal: journal.__setitem__(position, fact)


def add(position: int, *facts: Fact) -> Callable[[Journal], object]:
    return lambda journal: journal.__setitem__(slice(position, position), facts)


def drop(position: int) -> Callable[[Journal], object]:
    return lambda journal: journal.pop(position)


def move(position: int, to: int) -> Callable[[Journal], object]:
    return lambda journal: journal.insert(to, journal.pop(position))


def written(booked: int, *entries: Document, version: int = 8, capacity: int = 10) -> Written:
    ledger = {recorded["_id"]: recorded for recorded in entries}
    return Written(3, "worker", {"heat": movie(version, booked, capacity)}, ledger)


OTHER_A: Final = body("a", 2)
INVALID: Final = body("c", 0)
NONSENSE: Final = b"nonsense"


@pytest.mark.parametrize(
    ("expected", "change"),
    [
        forgery("I1", put(WRITTEN, written(11, A, B)), "overbooked"),
        forgery("I2", put(WRITTEN, written(7, A, B)), "fewer seats than people"),
        forgery("I2", put(WRITTEN, written(8, B)), "seats without an entry"),
        forgery("I2", put(WRITTEN, written(8, A, B, capacity=11)), "another capacity"),
        forgery("never true", put(WRITTEN, Written(3, "worker", {}, {"a": A, "b": B})), "no seats"),
        forgery("I6", put(WRITTEN, written(8, A, B, version=9)), "two versions further"),
        forgery("never true", put(WRITTEN, written(8, entry("a", 3, 9, 2), B)), "another version"),
        forgery("never true", put(WRITTEN, written(8, entry("a", 3, 8, 3), B)), "other seats"),
        forgery(
            "never true",
            put(WRITTEN, written(8, A, entry("b", 3, 7, 4, **SOLD_OUT))),
            "sold out with seats that never were left",
        ),
        forgery(
            "never true",
            put(WRITTEN, written(8, A, entry("b", 3, 7, 5, **SOLD_OUT))),
            "sold out with room",
        ),
        forgery("no request asks", put(WRITTEN, written(8, A, B, {**B, "_id": "x"})), "never sent"),
        forgery(
            "no request asks",
            put(WRITTEN, written(7, entry("a", 2, 8, 3), B)),
            "recorded otherwise",
        ),
        forgery(
            "before it was sent",
            put(WRITTEN, written(8, {**A, "decidedAt": START}, B)),
            "decided before it was sent",
        ),
        forgery(
            "I3: a was recorded before",
            add(MAJORITY, Written(3, "worker", {}, {"a": B})),
            "recorded twice",
        ),
        forgery("I3: announced", put(EVENT_A, event(A, seatsAvailable=1)), "announced otherwise"),
        forgery("was published as", put(EVENT_A, event(A)._replace(message_id="x")), "message id"),
        forgery("no majority has", move(MAJORITY, to=SETTLED_B), "announced too early"),
        forgery(
            "no majority has",
            add(EVENT_A, event(entry("x", 1, 8, 1))),
            "announced but not recorded",
        ),
        forgery(
            "no majority has",
            lambda journal: journal.__setitem__(slice(MAJORITY, MAJORITY + 1), [RolledBack(4, 1)]),
            "announced and then rolled back",
        ),
        forgery("I4: acknowledged", drop(EVENT_B), "acknowledged and not announced"),
        forgery("I4: acknowledged", move(SETTLED_A, to=EVENT_A), "acknowledged too early"),
        forgery(
            "I4: acknowledged",
            add(SETTLED_A, Sent(5, 3, body("a")), Settled(5, 3, "w")),
            "a repeated request that gets no answer",
        ),
        forgery(
            "I4: acknowledged",
            add(SETTLED_A, Sent(5, 3, OTHER_A), event(A), Settled(5, 3, "w")),
            "another request under the id without a dead letter",
        ),
        forgery(
            "I4: acknowledged",
            add(SETTLED_A, Sent(5, 3, NONSENSE), Settled(5, 3, "w")),
            "nonsense without a dead letter",
        ),
        forgery(
            "never announced", lambda journal: journal.__delitem__(slice(9, 12)), "never announced"
        ),
        forgery("I5: settled 0 times", drop(SETTLED_A), "never settled"),
        forgery(
            "I5: settled 2 times", add(SETTLED_A, event(A), Settled(6, 1, "w")), "settled twice"
        ),
        forgery("I5: the broker discarded", add(SETTLED_A, Discarded(5, 1)), "discarded"),
        forgery("I5: delivery 7", add(SETTLED_A, Misused(5, "delivery 7 is unknown")), "misused"),
        forgery(
            "without a cause",
            add(EVENT_A, dead_letter("undeliverable", body("a"))),
            "undeliverable",
        ),
        forgery(
            "without a cause",
            add(EVENT_A, dead_letter("request_id_reused", body("a"))),
            "not reused",
        ),
        forgery(
            "without a cause", add(EVENT_A, dead_letter("unreadable_request", body())), "readable"
        ),
        forgery("without a cause", add(EVENT_A, dead_letter("invalid_request", body())), "valid"),
        forgery("not on a majority", drop(MAJORITY), "never replicated"),
    ],
)
def test_each_forgery_is_found(expected: str, change: Callable[[Journal], object]) -> None:
    journal = good_journal()
    change(journal)
    assert any(expected in finding for finding in audit(journal, START))


def test_an_invalid_request_gets_entry_event_and_dead_letter() -> None:
    faulty = {
        "_id": "c",
        "movieId": "heat",
        "timeSlotId": 1,
        "outcome": "rejected",
        "reason": "invalid_request",
        "errors": [{"field": "numberOfPeople", "problem": "must be more, not 0"}],
        "decidedAt": DECIDED,
    }
    answered: Journal = [
        Written(3, "worker", {}, {"c": faulty}),
        MajorityHas(3, 3),
        event(faulty),
        dead_letter("invalid_request", INVALID),
        Settled(5, 3, "w"),
    ]
    journal = [*good_journal(), Sent(1, 3, INVALID), *answered]
    assert audit(journal, START) == []
    otherwise: Journal = [
        Sent(5, 4, body("c", -1)),
        dead_letter("request_id_reused", body("c", -1)),
    ]
    assert audit([*journal, *otherwise, Settled(6, 4, "w")], START) == []
    journal.remove(dead_letter("invalid_request", INVALID))
    assert any("I4: acknowledged" in finding for finding in audit(journal, START))


def test_poison_may_be_given_up_once_it_has_failed_often() -> None:
    given_up: Journal = [
        Sent(1, 3, body("c")),
        Delivered(5, 3, "w", 18),
        dead_letter("undeliverable", body("c")),
        Settled(6, 3, "w"),
    ]
    assert audit([*good_journal(), Poisonous(0, "c"), *given_up], START) == []
    assert audit([*good_journal(), *given_up], START), "a healthy request is never given up"
    del given_up[1]
    assert audit([*good_journal(), Poisonous(0, "c"), *given_up], START), "it has not failed yet"


def test_the_auditor_shares_no_code_with_the_worker() -> None:
    program = (
        "import sys; import tests.simulation.auditor\n"
        "print([m for m in sys.modules if m.partition('.')[0] in {'worker', 'contracts'}])"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert loaded.stdout.strip() == "[]"


@pytest.mark.parametrize("name", ["auditor", "history", "oracle", "evidence"])
def test_the_auditor_sees_only_the_evidence(name: str) -> None:
    tree = ast.parse((ROOT / "tests" / "simulation" / f"{name}.py").read_text())
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    own = {f"tests.simulation.{part}" for part in ("history", "evidence", "oracle")}
    assert {module for module in imported if module and module.startswith("tests")} <= own
