"""The commit against a real MongoDB: all or nothing, and only what was decided."""

from __future__ import annotations

import asyncio

import pytest
from pymongo import AsyncMongoClient

from contracts import FieldProblem, OutcomeEvent
from tests.conftest import Servers
from tests.integration.movies import (
    Database,
    Document,
    book,
    commit,
    decided,
    insert,
    read_movie,
    slot,
    the_movie,
)
from tests.unit.fakes import record
from tests.unit.values import NOW, ask, faulty
from worker.errors import Conflict, Refused
from worker.rules.snapshot import TimeSlot
from worker.service.recording import Recorder
from worker.store.store import Store


async def test_a_booking_changes_only_the_count_and_the_version(
    store: Store, database: Database
) -> None:
    extra = {"hall": {"name": "A", "rows": [1, 2]}, "bookedCount": 4}
    await insert(database, slot(2, 5), slot(1, 10, **extra), title="Heat", tags=["noir"])
    await book(store, ask("a", people=3), ask("b", people=1), ask("c", slot=2))
    assert await the_movie(database) == {
        "_id": "heat",
        "version": 8,
        "title": "Heat",
        "tags": ["noir"],
        "timeSlots": [
            {"id": 2, "capacity": 5, "bookedCount": 2},
            {"id": 1, "capacity": 10, "hall": {"name": "A", "rows": [1, 2]}, "bookedCount": 8},
        ],
    }


async def test_the_ledger_returns_every_outcome_as_it_was(store: Store) -> None:
    outcomes = [
        *(await decided(store, faulty("a"), faulty("b", field="movieId"), ask("c"))).outcomes,
        OutcomeEvent(
            request_id="d",
            movie_id="heat",
            time_slot_id=2**53 - 1,
            number_of_people=1000,
            outcome="confirmed",
            movie_version=2**40,
            seats_available=0,
            decided_at=NOW,
        ),
        OutcomeEvent(
            request_id="e",
            outcome="rejected",
            reason="invalid_request",
            errors=(FieldProblem(field="movieId", problem='not "\\u0000" or "$x.y" or é'),),
            decided_at=NOW,
        ),
    ]
    await store.commit([], outcomes)
    assert await store.outcomes([o.request_id for o in outcomes]) == {
        outcome.request_id: outcome for outcome in outcomes
    }
    assert await store.newest_outcomes(["d", "no-such-request"]) == {"d": outcomes[-2]}


async def test_a_ledger_entry_has_exactly_the_fields_of_the_contract(
    store: Store, database: Database
) -> None:
    await insert(database, slot())
    await book(store, ask("a"), ask("b", people=11))
    entries = {entry["_id"]: entry async for entry in database.reservations.find()}
    common = {"movieId": "heat", "timeSlotId": 1, "movieVersion": 8, "seatsAvailable": 8}
    assert entries == {
        "a": {
            "_id": "a",
            "numberOfPeople": 2,
            "outcome": "confirmed",
            "decidedAt": NOW,
            **common,
        },
        "b": {
            "_id": "b",
            "numberOfPeople": 11,
            "outcome": "rejected",
            "reason": "sold_out",
            "decidedAt": NOW,
            **common,
        },
    }


async def test_a_lost_race_is_a_conflict_and_writes_nothing(
    store: Store, database: Database
) -> None:
    await insert(database, slot())
    slow, fast = await decided(store, ask("slow")), await decided(store, ask("fast"))
    await commit(store, fast)
    with pytest.raises(Conflict):
        await commit(store, slow)
    assert set(await store.outcomes(["slow", "fast"])) == {"fast"}
    assert (await read_movie(store)).time_slots[1] == TimeSlot(10, 2)


async def test_one_lost_movie_keeps_the_others_of_the_batch_unchanged(
    store: Store, database: Database
) -> None:
    await insert(database, slot())
    await insert(database, slot(), _id="alien")
    both = await decided(store, ask("a"), ask("b", movie="alien"))
    await database.movies.update_one({"_id": "alien"}, {"$inc": {"version": 1}})
    with pytest.raises(Conflict):
        await commit(store, both)
    assert (await the_movie(database))["version"] == 7
    assert await store.outcomes(["a", "b"]) == {}


@pytest.mark.parametrize(
    "change",
    [
        {"$inc": {"timeSlots.0.bookedCount": 1}},
        {"$inc": {"timeSlots.0.capacity": -5}},
        {"$set": {"timeSlots.0.id": 9}},
        {"$set": {"timeSlots": []}},
        {"$unset": {"timeSlots": 1}},
    ],
    ids=str,
)
async def test_a_slot_changed_without_a_new_version_is_a_conflict(
    store: Store, database: Database, change: Document
) -> None:
    await insert(database, slot(bookedCount=0))
    decision = await decided(store, ask())
    await database.movies.update_one({"_id": "heat"}, change)
    before = await the_movie(database)
    with pytest.raises(Conflict):
        await commit(store, decision)
    assert await the_movie(database) == before
    assert await store.outcomes(["r1"]) == {}


async def test_a_writer_may_reorder_the_slots(store: Store, database: Database) -> None:
    await insert(database, slot(1), slot(2))
    decision = await decided(store, ask(slot=2))
    await database.movies.update_one({"_id": "heat"}, {"$set": {"timeSlots": [slot(2), slot(1)]}})
    await commit(store, decision)
    movie = await read_movie(store)
    assert (movie.time_slots[1], movie.time_slots[2]) == (TimeSlot(10, 0), TimeSlot(10, 2))


async def test_a_movie_deleted_since_it_was_read_is_a_conflict(
    store: Store, database: Database
) -> None:
    await insert(database, slot())
    decision = await decided(store, ask())
    await database.movies.delete_one({"_id": "heat"})
    with pytest.raises(Conflict):
        await commit(store, decision)
    assert await database.movies.find_one() is None


async def test_a_recorded_request_id_is_a_conflict_and_books_nothing(
    store: Store, database: Database
) -> None:
    await insert(database, slot())
    decision = await decided(store, ask("a"), ask("b"))
    await book(store, ask("b", movie="unknown"))
    with pytest.raises(Conflict):
        await commit(store, decision)
    assert (await the_movie(database))["version"] == 7
    assert set(await store.outcomes(["a", "b"])) == {"b"}


async def test_of_concurrent_commits_for_a_movie_one_succeeds(
    store: Store, database: Database
) -> None:
    await insert(database, slot(capacity=1000))
    decisions = [await decided(store, ask(str(number))) for number in range(8)]
    results = await asyncio.gather(
        *(commit(store, decision) for decision in decisions), return_exceptions=True
    )
    lost = [result for result in results if result is not None]
    assert [type(result) for result in lost] == [Conflict] * 7
    assert (await read_movie(store)).time_slots[1] == TimeSlot(1000, 2)


async def test_an_overbooking_is_refused_by_mongodb_itself(
    store: Store, database: Database
) -> None:
    await insert(database, slot(bookedCount=0))
    (booking,) = (await decided(store, ask())).bookings
    excessive = type(booking)(booking.movie, {1: 11})
    with pytest.raises(Refused):
        await store.commit([excessive], [])
    assert (await read_movie(store)).time_slots[1] == TimeSlot(10, 0)


async def test_a_cancelled_commit_runs_to_its_end(store: Store, database: Database) -> None:
    await insert(database, slot())
    decision = await decided(store, ask())
    committing = asyncio.create_task(commit(store, decision))
    await asyncio.sleep(0)
    committing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await committing
    await asyncio.wait(store._commits)
    assert set(await store.outcomes(["r1"])) == {"r1"}


async def test_a_dead_workers_transaction_does_not_block_for_long(
    store: Store, database: Database, servers: Servers
) -> None:
    await insert(database, slot())
    async with AsyncMongoClient[Document](
        servers.mongodb_uri, appname="reservation-worker"
    ) as dead:
        session = dead.start_session()
        await session.start_transaction()
        movies = dead.get_database(database.name).movies
        await movies.update_one({"_id": "heat"}, {"$inc": {"version": 1}}, session=session)
        (outcome,) = await record(Recorder(store), [ask()])
    assert isinstance(outcome, OutcomeEvent)
    assert (outcome.outcome, outcome.movie_version) == ("confirmed", 8)
