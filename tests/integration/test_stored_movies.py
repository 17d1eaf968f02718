"""Movies as others stored them in a real MongoDB: which can be read and booked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from bson import ObjectId
from bson.int64 import Int64

from contracts import ReservationRequest
from tests.integration.movies import (
    Database,
    book,
    insert,
    read_movie,
    slot,
    the_movie,
)
from tests.unit.values import ask
from worker.rules.snapshot import Malformed, Movie, TimeSlot
from worker.store.store import Store


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"timeSlots": [slot()], "version": 3}, Movie("heat", 3, {1: TimeSlot(10, 0)})),
        ({"timeSlots": [slot(bookedCount=4)]}, Movie("heat", 0, {1: TimeSlot(10, 4)})),
        (
            {"timeSlots": [slot(1.0, 10.0, bookedCount=4.0)], "version": 3.0},
            Movie("heat", 3, {1: TimeSlot(10, 4)}),
        ),
        (
            {"timeSlots": [slot(Int64(1), Int64(2**40))], "version": Int64(2**40)},
            Movie("heat", 2**40, {1: TimeSlot(2**40, 0)}),
        ),
        ({}, Movie("heat", 0, {})),
        ({"timeSlots": {"id": 1}}, Movie("heat", 0, {})),
        ({"timeSlots": [None, 5, "x", {}, slot("one"), slot(1.5)]}, Movie("heat", 0, {})),
    ],
)
async def test_a_movie_is_read_however_its_numbers_are_stored(
    store: Store, database: Database, fields: Mapping[str, Any], expected: Movie
) -> None:
    await database.movies.insert_one({"_id": "heat", **fields}, bypass_document_validation=True)
    movie = await read_movie(store)
    assert replace(movie, time_slots=dict(movie.time_slots)) == expected


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"version": "one", "timeSlots": [slot()]}, "version"),
        ({"version": 1.5, "timeSlots": [slot()]}, "version"),
        ({"version": True, "timeSlots": [slot()]}, "version"),
        ({"timeSlots": [slot(capacity="ten")]}, "capacity"),
        ({"timeSlots": [{"id": 1}]}, "capacity"),
        ({"timeSlots": [slot(capacity=1.5)]}, "capacity"),
        ({"timeSlots": [slot(bookedCount="two")]}, "bookedCount"),
        ({"timeSlots": [slot(), slot()]}, "more than one"),
    ],
)
async def test_a_movie_that_allows_no_decision_is_read_as_malformed(
    store: Store, database: Database, fields: Mapping[str, Any], word: str
) -> None:
    await database.movies.insert_one({"_id": "heat", **fields}, bypass_document_validation=True)
    found = (await store.read(["heat"], [])).movies["heat"]
    fault = found if isinstance(found, Malformed) else found.time_slots[1]
    assert isinstance(fault, Malformed)
    assert word in fault.detail


@pytest.mark.parametrize(
    "fields",
    [
        {"timeSlots": [slot()]},
        {"version": 0, "timeSlots": [slot(bookedCount=0)]},
        {"version": 2.0, "timeSlots": [slot(1.0, 10.0, bookedCount=3.0)]},
        {"version": Int64(5), "timeSlots": [slot(Int64(1), Int64(10))]},
    ],
)
async def test_a_movie_can_be_booked_however_its_numbers_are_stored(
    store: Store, database: Database, fields: Mapping[str, Any]
) -> None:
    await database.movies.insert_one({"_id": "heat", **fields})
    before = await read_movie(store)
    await book(store, ask(people=2))
    after, (earlier,) = await read_movie(store), before.time_slots.values()
    assert isinstance(earlier, TimeSlot)
    assert after.version == before.version + 1
    assert after.time_slots[1] == TimeSlot(10, earlier.booked_count + 2)


async def test_a_string_id_takes_precedence_over_an_object_id(
    store: Store, database: Database
) -> None:
    one, two = ObjectId(), ObjectId()
    await insert(database, slot(capacity=1), _id=one)
    await insert(database, slot(capacity=2), _id=two)
    await insert(database, slot(capacity=3), _id=str(two))
    found = (await store.read([str(one), str(two), str(one).upper()], [])).movies
    assert {name: movie.key for name, movie in found.items() if isinstance(movie, Movie)} == {
        str(one): one,
        str(two): str(two),
    }
    await book(store, request_for(str(one)), request_for(str(two)))
    assert (await the_movie(database, one))["version"] == 8
    assert (await the_movie(database, str(two)))["version"] == 8
    assert (await the_movie(database, two))["version"] == 7


def request_for(movie_id: str) -> ReservationRequest:
    return ask(f"for-{movie_id}", movie=movie_id, people=1)
