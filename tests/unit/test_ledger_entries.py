"""What an audit reports about a single ledger entry: nothing about one that a worker wrote."""

from __future__ import annotations

from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts import InvalidRequest, ReservationRequest
from tests.unit.values import NOW, SECOND, ask, faulty, movie
from worker.commands.audit.entries import faults_of
from worker.rules.decision import decide
from worker.rules.snapshot import Snapshot, TimeSlot
from worker.store.documents import ledger_document

Entry = dict[str, Any]

ABSENT: Final = object()

CONFIRMED: Final[Entry] = {
    "_id": "r1",
    "movieId": "heat",
    "timeSlotId": 1,
    "numberOfPeople": 2,
    "outcome": "confirmed",
    "movieVersion": 8,
    "seatsAvailable": 4,
    "decidedAt": NOW,
}
SOLD_OUT: Final[Entry] = {
    **CONFIRMED,
    "outcome": "rejected",
    "reason": "sold_out",
    "seatsAvailable": 1,
}
INVALID: Final[Entry] = {
    "_id": "r1",
    "outcome": "rejected",
    "reason": "invalid_request",
    "errors": [{"field": "movieId", "problem": "is required"}],
    "decidedAt": NOW,
}


def changed(entry: Entry, **fields: object) -> Entry:
    merged = {**entry, **{("_id" if k == "id" else k): v for k, v in fields.items()}}
    return {name: value for name, value in merged.items() if value is not ABSENT}


@given(
    st.lists(
        st.builds(
            lambda number, people, slot, name, late: ask(
                f"r{number}",
                movie=name,
                slot=slot,
                people=people,
                expires_at=NOW - SECOND if late else None,
            ),
            number=st.integers(0, 50),
            people=st.integers(1, 1000),
            slot=st.integers(1, 3),
            name=st.sampled_from(["heat", "alien"]),
            late=st.booleans(),
        )
        | st.sampled_from([faulty("bad"), faulty("worse", field="movieId")]),
        max_size=20,
    )
)
def test_an_entry_decided_and_written_by_the_worker_is_valid(
    requests: list[ReservationRequest | InvalidRequest],
) -> None:
    slots = {1: TimeSlot(1000, 0), 2: TimeSlot(5, 5)}
    decided = decide(requests, Snapshot({"heat": movie(slots=slots)}, {}), NOW)
    for outcome in decided.outcomes:
        assert list(faults_of(ledger_document(outcome))) == []


@pytest.mark.parametrize(
    ("entry", "fault"),
    [
        (changed(CONFIRMED, id="a b"), "its _id is 'a b', which is no requestId"),
        (changed(CONFIRMED, id=7), "its _id is 7, which is no requestId"),
        (changed(CONFIRMED, decidedAt="today"), "decidedAt is 'today', not a time"),
        (changed(CONFIRMED, decidedAt=ABSENT), "decidedAt is missing, not a time"),
        (changed(CONFIRMED, reason="sold_out"), "outcome 'confirmed' and reason 'sold_out' do not"),
        (changed(CONFIRMED, outcome="lost"), "outcome 'lost' and reason missing do not"),
        (changed(SOLD_OUT, reason=ABSENT), "outcome 'rejected' and reason missing do not"),
        (changed(SOLD_OUT, reason="confirmed"), "outcome 'rejected' and reason 'confirmed' do not"),
        (changed(SOLD_OUT, reason=["x"]), "outcome 'rejected' and reason ['x'] do not"),
        (changed(CONFIRMED, seatsAvailable=ABSENT), "it is confirmed, but has no seatsAvailable"),
        (changed(CONFIRMED, errors=[]), "it is confirmed, but has errors"),
        (changed(CONFIRMED, movieVersion=0), "movieVersion is 0, which no confirmation can have"),
        (changed(CONFIRMED, movieId="a/b"), "movieId is 'a/b', which no request may have"),
        (changed(CONFIRMED, numberOfPeople=0), "numberOfPeople is 0, not an integer from 1"),
        (changed(CONFIRMED, numberOfPeople=2.0), "numberOfPeople is 2.0, not an integer"),
        (changed(CONFIRMED, timeSlotId=True), "timeSlotId is True, not an integer"),
        (changed(CONFIRMED, seatsAvailable=-1), "seatsAvailable is -1, not an integer from 0"),
        (changed(SOLD_OUT, seatsAvailable=2), "it is sold_out, but 2 seats were available"),
        (changed(SOLD_OUT, reason="unknown_movie"), "it is unknown_movie, but has movieVersion"),
        (changed(SOLD_OUT, reason="unknown_time_slot"), "but has seatsAvailable"),
        (changed(INVALID, errors=ABSENT), "it is invalid_request, but has no errors"),
        (changed(INVALID, errors="x"), "errors is 'x', not a list"),
        (changed(INVALID, movieVersion=1), "it is invalid_request, but has movieVersion"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_fault_of_an_entry_is_reported(entry: Entry, fault: str) -> None:
    assert fault in "; ".join(faults_of(entry))


@pytest.mark.parametrize(
    "entry", [CONFIRMED, SOLD_OUT, INVALID], ids=["confirmed", "sold out", "invalid"]
)
def test_a_valid_entry_may_have_fields_of_others(entry: Entry) -> None:
    assert list(faults_of({**entry, "exportedAt": "yesterday"})) == []
