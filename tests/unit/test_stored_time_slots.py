"""Which of a movie's stored time slots a worker and an audit read, and which they leave out.

The two share no code, so each of them must know by itself that ``True``, which equals 1 in Python,
is not an id, while the 1.0 of a shell is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import pytest

from worker.commands.audit.movies import AuditedMovie, read_movie
from worker.commands.audit.violations import Violation
from worker.rules.snapshot import Malformed, Movie, TimeSlot
from worker.store.documents import StoredTimeSlots, movies_by_id

Slot = Mapping[str, Any]

GOOD: Final[Slot] = {"id": 1, "capacity": 10, "bookedCount": 4}
OTHER: Final[Slot] = {"id": 2, "capacity": 5}


def read(*slots: object) -> StoredTimeSlots:
    return StoredTimeSlots("heat", slots)


def audited(*slots: object) -> tuple[AuditedMovie, list[str]]:
    """The movie as an audit reads it, and the violations that it reports of it."""
    found: list[Violation] = []
    movie = read_movie({"version": 1, "timeSlots": list(slots)}, "heat", found.append)
    return movie, [str(violation) for violation in found]


NO_IDS: Final = [True, False, None, "1", 1.5, [1]]


@pytest.mark.parametrize("wrong", NO_IDS, ids=repr)
def test_a_slot_whose_id_is_no_number_cannot_be_requested(wrong: object) -> None:
    slots = read({**GOOD, "id": wrong}, OTHER)
    assert dict(slots) == {2: TimeSlot(5, 0)}
    assert 0 not in slots
    assert 1 not in slots


@pytest.mark.parametrize("wrong", NO_IDS, ids=repr)
def test_a_slot_whose_id_is_no_number_hides_no_other(wrong: object) -> None:
    numbered = {"id": int(wrong) if isinstance(wrong, bool) else 1, "capacity": 7}
    assert dict(read({**GOOD, "id": wrong}, numbered)) == {numbered["id"]: TimeSlot(7, 0)}


@pytest.mark.parametrize("wrong", NO_IDS, ids=repr)
def test_an_audit_leaves_out_a_slot_whose_id_is_no_number(wrong: object) -> None:
    movie, violations = audited({**GOOD, "id": wrong}, {**OTHER, "id": 0}, {**OTHER, "id": 1})
    assert set(movie.slots) == {0, 1}
    assert [slot.capacity for slot in movie.slots.values()] == [5, 5]
    assert violations == []


def test_an_id_that_a_shell_stored_as_a_double_is_an_id() -> None:
    assert dict(read({**GOOD, "id": 1.0})) == {1: TimeSlot(10, 4)}
    movie, violations = audited({**GOOD, "id": 1.0})
    assert set(movie.slots) == {1}
    assert violations == []


@pytest.mark.parametrize("field", ["capacity", "bookedCount"])
def test_a_boolean_is_no_number_of_seats(field: str) -> None:
    slot = read({**GOOD, field: True})[1]
    assert slot == Malformed(f"movie heat, time slot 1: {field} is True, not a whole number")
    movie, violations = audited({**GOOD, field: True})
    assert movie.slots == {}
    assert violations == [f"I1 movie heat, time slot 1: {field} is True, not a whole number"]


def test_a_boolean_is_no_version() -> None:
    movie = movies_by_id([{"_id": "heat", "version": True}])["heat"]
    assert movie == Malformed("movie heat: version is True, not a whole number")
    found: list[Violation] = []
    assert read_movie({"version": True}, "heat", found.append).version is None
    assert [violation.invariant for violation in found] == ["I6"]


def test_slots_of_one_id_allow_no_decision() -> None:
    movie = movies_by_id([{"_id": "heat", "timeSlots": [GOOD, {**OTHER, "id": 1.0}]}])["heat"]
    assert isinstance(movie, Movie)
    assert movie.time_slots[1] == Malformed("movie heat: more than one time slot has the id 1")
