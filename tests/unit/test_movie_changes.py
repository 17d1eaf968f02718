"""What an import changes of a stored movie, and what it refuses to change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.test_movie_file import OBJECT_ID, imported
from tests.unit.values import movie as stored_movie
from worker.commands.import_movies import change_of
from worker.commands.movie_file import ValidMovie
from worker.errors import BadInput
from worker.rules.snapshot import Malformed, Movie, TimeSlot


def of_slots(*slots: Mapping[str, Any], key: object = "heat") -> ValidMovie:
    return imported({"_id": key, "timeSlots": slots})[0]


def change(given_movie: ValidMovie, stored: Movie | Malformed) -> tuple[dict[int, int], list[int]]:
    """The new capacities and the new time slots that an import of the movie results in."""
    found = change_of(given_movie, stored)
    return (dict(found.capacities), list(found.new_time_slots)) if found else ({}, [])


CHANGES: Final = {
    "the same again": ([{"id": 1, "capacity": 10}], ({}, [])),
    "the same with bookings, which an import leaves alone": (
        [{"id": 1, "capacity": 10, "bookedCount": 9}],
        ({}, []),
    ),
    "no time slots, and none are removed": ([], ({}, [])),
    "more seats": ([{"id": 1, "capacity": 11}], ({1: 11}, [])),
    "fewer seats": ([{"id": 1, "capacity": 5}], ({1: 5}, [])),
    "just enough seats for the bookings": ([{"id": 1, "capacity": 4}], ({1: 4}, [])),
    "another time slot": ([{"id": 2, "capacity": 5}], ({}, [2])),
    "both": ([{"id": 2, "capacity": 5}, {"id": 1, "capacity": 20}], ({1: 20}, [2])),
}


@pytest.mark.parametrize(("slots", "expected"), CHANGES.values(), ids=CHANGES.keys())
def test_an_import_adds_time_slots_and_changes_capacities(
    slots: list[dict[str, Any]], expected: tuple[dict[int, int], list[int]]
) -> None:
    assert change(of_slots(*slots), stored_movie()) == expected


REFUSALS: Final[dict[str, tuple[ValidMovie, Movie | Malformed, str]]] = {
    "fewer seats than are booked": (
        of_slots({"id": 2, "capacity": 5}, {"id": 1, "capacity": 3}),
        stored_movie(),
        "time slot 1: a capacity of 3 is below the 4 seats that are booked",
    ),
    "a malformed stored movie": (of_slots(), Malformed("version is 'x'"), "version is 'x'"),
    "a malformed stored time slot": (
        of_slots({"id": 1, "capacity": 5}),
        stored_movie(slots={1: Malformed("capacity is missing")}),
        "capacity is missing; correct the stored movie first",
    ),
    "a movie that is stored under the other type of _id": (
        of_slots(key={"$oid": OBJECT_ID}),
        stored_movie(key=OBJECT_ID),
        "its stored _id is of the type str",
    ),
}


@pytest.mark.parametrize(
    ("given_movie", "stored", "expected"), REFUSALS.values(), ids=REFUSALS.keys()
)
def test_an_import_refuses_what_it_may_not_change(
    given_movie: ValidMovie, stored: Movie | Malformed, expected: str
) -> None:
    with pytest.raises(BadInput) as raised:
        change_of(given_movie, stored)
    assert expected in str(raised.value)


small = st.integers(min_value=0, max_value=9)
time_slots = st.dictionaries(small, st.tuples(small, small), max_size=4)


@given(before=time_slots, wanted=st.dictionaries(small, small, max_size=4))
def test_no_import_removes_a_booked_seat_or_a_time_slot(
    before: dict[int, tuple[int, int]], wanted: dict[int, int]
) -> None:
    stored = Movie("heat", 0, {i: TimeSlot(max(n), min(n)) for i, n in before.items()})
    slots = [{"id": key, "capacity": capacity} for key, capacity in wanted.items()]
    try:
        capacities, new = change(of_slots(*slots), stored)
    except BadInput:
        assert any(wanted[key] < min(before[key]) for key in wanted.keys() & before.keys())
        return
    after = {key: max(numbers) for key, numbers in before.items()} | capacities
    assert all(after[key] >= min(numbers) for key, numbers in before.items())
    assert not set(new) & set(before)
    assert after | {key: wanted[key] for key in new} == after | wanted
