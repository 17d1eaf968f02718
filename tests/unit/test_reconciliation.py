"""Movies that workers change while an audit reads them, and violations that it must find."""

from __future__ import annotations

from typing import Any, Final

from tests.unit.values import NOW, SECOND
from worker.commands.audit.findings import imbalances
from worker.commands.audit.reconciliation import Reconciler
from worker.commands.audit.violations import Violation

Document = dict[str, Any]

SLOT: Final[Document] = {"id": 1, "capacity": 10, "bookedCount": 2}
HEAT: Final[Document] = {"_id": "heat", "name": "heat", "version": 1, "timeSlots": [SLOT]}


def entry(version: int, *, movie: str = "heat", people: int = 2, left: int = 8) -> Document:
    return {
        "_id": f"{movie}-{version}-{left}",
        "movieId": movie,
        "timeSlotId": 1,
        "numberOfPeople": people,
        "outcome": "confirmed",
        "movieVersion": version,
        "seatsAvailable": left,
        "decidedAt": NOW + version * SECOND,
    }


def audited(
    *entries: Document, movies: tuple[Document, ...] = (HEAT,), later: Document | None = None
) -> list[str]:
    """The violations in these movies and entries; ``later`` has the versions of a second read."""
    found: list[Violation] = []
    reconciler = Reconciler(found.append)
    reconciler.begin_range(movies, [])
    for each in entries:
        reconciler.add_entry(each)
    reconciler.end_entries()
    reconciler.recheck(reconciler.movies_to_recheck(), later or {})
    for movie in reconciler.end_range():
        found.extend(imbalances(movie))
    return [str(violation) for violation in found]


def test_bookings_after_the_read_are_left_for_the_next_audit() -> None:
    assert audited(entry(1), entry(2, left=6), entry(3, left=4), later={"heat": 3}) == []


def test_bookings_after_the_read_cannot_hide_a_lost_seat() -> None:
    (line,) = audited(entry(2), later={"heat": 2})
    assert line.startswith("I2 movie heat, time slot 1: bookedCount is 2, but 0 people are")


def test_a_movie_added_during_the_audit_is_no_violation() -> None:
    assert audited(entry(1), entry(1, movie="alien"), later={"alien": 1}) == []


def test_a_movie_below_the_version_of_an_entry_went_back() -> None:
    assert audited(entry(1), entry(4, left=6), later={"heat": 3}) == [
        "I6 movie heat: version is 3, but request heat-4-6 was decided at version 4"
    ]


def test_the_entries_of_a_commit_may_be_read_in_any_order() -> None:
    full = {**HEAT, "timeSlots": [{**SLOT, "bookedCount": 6}]}
    commit = [entry(1, left=4), entry(1, left=8), entry(1, left=6)]
    assert audited(*commit, movies=(full,)) == []


def test_a_seat_that_two_confirmations_took_is_reported() -> None:
    both = {**HEAT, "timeSlots": [{**SLOT, "bookedCount": 4}]}
    twice = [entry(1), {**entry(1), "_id": "other"}]
    (line,) = audited(*twice, movies=(both,))
    assert line.startswith("I3 movie heat, time slot 1: the seats that the confirmations of ver")


def test_of_a_movie_that_no_request_can_name_i1_is_checked() -> None:
    nameless = {**HEAT, "_id": 7, "name": None, "timeSlots": [{**SLOT, "bookedCount": 11}]}
    assert audited(movies=(nameless,)) == ["I1 movie 7, time slot 1: bookedCount is 11 of 10 seats"]


def test_what_is_reported_is_safe_to_print() -> None:
    hostile = {**HEAT, "_id": "\x1b[31mheat", "name": "\x1b[31mheat"}
    (line,) = audited(movies=(hostile,))
    assert line.startswith("I2 movie \\x1b[31mheat, time slot 1: ")
