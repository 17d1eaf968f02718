"""The rule that decides, as a table: each row changes a little and ends with its result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Final, NamedTuple

import pytest

from contracts import OutcomeEvent
from tests.unit.values import NOW, SECOND, ask, confirmed, faulty, found_invalid, movie, shown_all
from worker.rules.decision import Request, decide
from worker.rules.snapshot import Malformed, Movie, Snapshot, TimeSlot

CATALOGUE: Final[Mapping[str, Movie | Malformed]] = {
    "heat": movie(
        slots={
            1: TimeSlot(capacity=10, booked_count=4),
            2: TimeSlot(capacity=5, booked_count=5),
            3: Malformed("slot 3 is bad"),
            4: TimeSlot(capacity=5, booked_count=9),
            5: TimeSlot(capacity=5, booked_count=0),
        }
    ),
    "alien": movie(key="alien", version=0, slots={1: TimeSlot(capacity=3, booked_count=0)}),
    "broken": Malformed("this movie is bad"),
}
LATE: Final = NOW - SECOND


class Row(NamedTuple):
    """The requests of a batch, the decision of each, and what the ledger held before."""

    requests: Sequence[Request]
    expected: Sequence[str]
    ledger: Sequence[OutcomeEvent] = ()


ONE_REQUEST: Final = {
    "it fits": Row([ask()], ["confirmed, version 8, 4 left"]),
    "it takes the last seats": Row([ask(people=6)], ["confirmed, version 8, 0 left"]),
    "it wants one more than there is": Row([ask(people=7)], ["sold_out, version 7, 6 left"]),
    "the slot is full": Row([ask(slot=2, people=1)], ["sold_out, version 7, 0 left"]),
    "the slot was overbooked by others": Row(
        [ask(slot=4, people=1)], ["sold_out, version 7, 0 left"]
    ),
    "it expires later": Row([ask(expires_at=NOW + SECOND)], ["confirmed, version 8, 4 left"]),
    "it expires just now": Row([ask(expires_at=NOW)], ["confirmed, version 8, 4 left"]),
    "it has expired": Row([ask(expires_at=LATE)], ["expired, version 7, 6 left"]),
    "the slot is unknown": Row([ask(slot=9)], ["unknown_time_slot, version 7"]),
    "the movie is unknown": Row([ask(movie="jaws")], ["unknown_movie"]),
    "the people are invalid": Row([faulty()], ["invalid_request"]),
    "the slot is stored badly": Row([ask(slot=3)], ["undecidable: slot 3 is bad"]),
    "the movie is stored badly": Row([ask(movie="broken")], ["undecidable: this movie is bad"]),
}

PRECEDENCE: Final = {
    "expired before sold out": Row(
        [ask(people=7, expires_at=LATE)], ["expired, version 7, 6 left"]
    ),
    "unknown slot before expired": Row(
        [ask(slot=9, expires_at=LATE)], ["unknown_time_slot, version 7"]
    ),
    "unknown movie before unknown slot": Row([ask(movie="jaws", slot=9)], ["unknown_movie"]),
    "unknown movie before expired": Row([ask(movie="jaws", expires_at=LATE)], ["unknown_movie"]),
    "invalid before unknown movie": Row([faulty(movie="jaws")], ["invalid_request"]),
    "invalid before a badly stored movie": Row([faulty(movie="broken")], ["invalid_request"]),
    "invalid before a badly stored slot": Row([faulty(slot=3)], ["invalid_request"]),
    "badly stored before expired": Row(
        [ask(slot=3, expires_at=LATE)], ["undecidable: slot 3 is bad"]
    ),
}

RECORDED: Final = {
    "a confirmation stands though the slot is full now": Row(
        [ask(slot=2)], ["confirmed, version 5, 3 left"], [confirmed(ask(slot=2))]
    ),
    "a confirmation stands though the movie is gone": Row(
        [ask(movie="jaws")], ["confirmed, version 5, 3 left"], [confirmed(ask(movie="jaws"))]
    ),
    "a confirmation stands though the movie is stored badly now": Row(
        [ask(movie="broken")], ["confirmed, version 5, 3 left"], [confirmed(ask(movie="broken"))]
    ),
    "a confirmation stands though the request has expired": Row(
        [ask(expires_at=LATE)], ["confirmed, version 5, 3 left"], [confirmed(ask())]
    ),
    "another expiry is no other content": Row(
        [ask(expires_at=NOW + SECOND)], ["confirmed, version 5, 3 left"], [confirmed(ask())]
    ),
    "an invalid request is invalid again": Row(
        [faulty()], ["invalid_request"], [found_invalid(faulty())]
    ),
    "other people are other content": Row([ask(people=3)], ["reused"], [confirmed(ask())]),
    "another slot is other content": Row([ask(slot=2)], ["reused"], [confirmed(ask())]),
    "another movie is other content": Row([ask(movie="alien")], ["reused"], [confirmed(ask())]),
    "an unknown movie is other content": Row([ask(movie="jaws")], ["reused"], [confirmed(ask())]),
    "invalid after valid is other content": Row([faulty()], ["reused"], [confirmed(ask())]),
    "valid after invalid is other content": Row([ask()], ["reused"], [found_invalid(faulty())]),
    "an invalid expiry after a valid body is other content": Row(
        [faulty(field="expiresAt")], ["reused"], [confirmed(ask())]
    ),
    "a valid body after an invalid expiry is other content": Row(
        [ask()], ["reused"], [found_invalid(faulty(field="expiresAt"))]
    ),
    **{
        f"another invalid {field} is other content": Row(
            [faulty(field=field, held="1001")],
            ["reused"],
            [found_invalid(faulty(field=field, held="0"))],
        )
        for field in ("movieId", "timeSlotId", "numberOfPeople")
    },
    "another invalid field is other content": Row(
        [faulty(field="timeSlotId")], ["reused"], [found_invalid(faulty())]
    ),
    "another invalid expiry is not other content": Row(
        [faulty(field="expiresAt", held="2")],
        ["invalid_request"],
        [found_invalid(faulty(field="expiresAt", held="1"))],
    ),
}

BATCHES: Final = {
    "seats are taken before the next is looked at": Row(
        [ask("a", people=4), ask("b", people=3), ask("c", people=2), ask("d", people=1)],
        [
            "confirmed, version 8, 2 left",
            "sold_out, version 8, 2 left",
            "confirmed, version 8, 0 left",
            "sold_out, version 8, 0 left",
        ],
    ),
    "before the first confirmation the version is the old one": Row(
        [ask("a", people=7), ask("b"), ask("c", people=7)],
        [
            "sold_out, version 7, 6 left",
            "confirmed, version 8, 4 left",
            "sold_out, version 8, 4 left",
        ],
    ),
    "a confirmation in one slot raises the version seen from the others": Row(
        [ask("a"), ask("b", slot=2), ask("c", slot=9)],
        [
            "confirmed, version 8, 4 left",
            "sold_out, version 8, 0 left",
            "unknown_time_slot, version 8",
        ],
    ),
    "confirmations in two slots raise the version once": Row(
        [ask("a"), ask("b", slot=5), ask("c")],
        [
            "confirmed, version 8, 4 left",
            "confirmed, version 8, 3 left",
            "confirmed, version 8, 2 left",
        ],
    ),
    "each movie has its own version and seats": Row(
        [ask("a"), ask("b", movie="alien"), ask("c", movie="alien")],
        [
            "confirmed, version 8, 4 left",
            "confirmed, version 1, 1 left",
            "sold_out, version 1, 1 left",
        ],
    ),
    "a duplicate takes its seats once": Row(
        [ask("a", people=4), ask("a", people=4), ask("b")],
        ["confirmed, version 8, 2 left"] * 2 + ["confirmed, version 8, 0 left"],
    ),
    "a duplicate of a rejection is not confirmed though it would fit": Row(
        [ask("a", expires_at=LATE), ask("a")], ["expired, version 7, 6 left"] * 2
    ),
    "the second of two with one id is refused": Row(
        [ask("a"), ask("a", people=3), ask("a")],
        ["confirmed, version 8, 4 left", "reused", "confirmed, version 8, 4 left"],
    ),
    "invalid and valid with one id, invalid first": Row(
        [faulty("a"), ask("a")], ["invalid_request", "reused"]
    ),
    "invalid and valid with one id, valid first": Row(
        [ask("a"), faulty("a")], ["confirmed, version 8, 4 left", "reused"]
    ),
    "a replay takes no seats": Row(
        [ask("a", people=4), ask("b", people=6)],
        ["confirmed, version 5, 3 left", "confirmed, version 8, 0 left"],
        [confirmed(ask("a", people=4))],
    ),
    "what cannot be decided does not hold up the rest, and its id stays free": Row(
        [ask("a", slot=3), ask("b"), ask("a")],
        [
            "undecidable: slot 3 is bad",
            "confirmed, version 8, 4 left",
            "confirmed, version 8, 2 left",
        ],
    ),
}


def rows(table: Mapping[str, Row]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("row", [pytest.param(r, id=n) for n, r in table.items()])


def check(row: Row) -> None:
    ledger = {entry.request_id: entry for entry in row.ledger}
    assert shown_all(decide(row.requests, Snapshot(CATALOGUE, ledger), NOW)) == list(row.expected)


@rows(ONE_REQUEST)
def test_a_request_by_itself_gets_the_first_reason_that_holds(row: Row) -> None:
    check(row)


@rows(PRECEDENCE)
def test_of_two_reasons_the_upper_one_of_the_table_wins(row: Row) -> None:
    check(row)


@rows(RECORDED)
def test_what_the_ledger_holds_comes_before_every_other_rule(row: Row) -> None:
    check(row)


@rows(BATCHES)
def test_a_batch_is_decided_in_arrival_order(row: Row) -> None:
    check(row)


def test_an_outcome_repeats_what_was_asked_and_when() -> None:
    (outcome,) = decide([ask()], Snapshot(CATALOGUE, {}), NOW).decisions
    assert outcome == OutcomeEvent(
        request_id="r1",
        movie_id="heat",
        time_slot_id=1,
        number_of_people=2,
        outcome="confirmed",
        movie_version=8,
        seats_available=4,
        decided_at=NOW,
    )


def test_an_invalid_outcome_has_errors_and_only_valid_fields() -> None:
    request = faulty(field="movieId")
    (outcome,) = decide([request], Snapshot(CATALOGUE, {}), NOW).decisions
    assert outcome == found_invalid(request).model_copy(update={"decided_at": NOW})


def test_only_new_outcomes_are_to_be_recorded_and_each_once() -> None:
    requests: list[Request] = [
        ask("a"),
        ask("a"),
        ask("b", people=9),
        ask("c"),
        faulty("d"),
        ask("e", slot=3),
    ]
    decided = decide(requests, Snapshot(CATALOGUE, {"c": confirmed(ask("c"))}), NOW)
    assert [outcome.request_id for outcome in decided.outcomes] == ["a", "b", "d"]


def test_the_bookings_of_a_movie_are_one_update() -> None:
    heat = movie(slots={1: TimeSlot(10, 4), 2: TimeSlot(5, 0)})
    requests = [ask("a"), ask("b", slot=2, people=1), ask("c", people=3), ask("d", people=2)]
    decided = decide(requests, Snapshot({"heat": heat}, {}), NOW)
    ((booked, people),) = [(booking.movie, booking.people) for booking in decided.bookings]
    assert (booked, people) == (heat, {1: 5, 2: 1})


def test_a_batch_without_a_confirmation_changes_no_movie() -> None:
    requests: list[Request] = [
        ask("a", people=7),
        ask("b", slot=9),
        ask("c", movie="jaws"),
        faulty("d"),
    ]
    assert decide(requests, Snapshot(CATALOGUE, {}), NOW).bookings == []


def test_an_empty_batch_comes_to_nothing() -> None:
    decided = decide([], Snapshot(CATALOGUE, {}), NOW)
    assert (decided.decisions, decided.outcomes, decided.bookings) == ([], [], [])


def test_a_reused_id_is_refused_with_the_time_of_its_outcome() -> None:
    (decision,) = decide(
        [ask(people=3)], Snapshot(CATALOGUE, {"r1": confirmed(ask())}), NOW
    ).decisions
    moment = (NOW - timedelta(hours=1)).isoformat()
    assert f"confirmed at {moment}" in str(decision)
