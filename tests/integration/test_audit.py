"""The audit of a real database: what it finds, and what it must not report as a violation."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final

import pytest
from bson import ObjectId

from tests.acceptance.cinema import Cinema, request_for, slots
from tests.conftest import Servers
from tests.integration.movies import Database, book, book_meanwhile, insert, slot
from tests.unit.values import NOW, SECOND, ask, faulty
from worker.commands.audit.findings import audit_database
from worker.errors import BadInput, InvariantsViolated, StoreUnusable
from worker.settings import Settings
from worker.store import audit as store_audit
from worker.store.store import Store

Shown = pytest.CaptureFixture[str]

MOVIE: Final = ObjectId("665f1c2ab4e0a1d2c3b4a596")


@pytest.fixture
def settings(servers: Servers, database: Database) -> Settings:
    return Settings(mongodb_uri=servers.mongodb_uri, mongodb_database=database.name)


@pytest.fixture
async def busy(store: Store, database: Database) -> Store:
    """Two movies with bookings, one of them named by an ObjectId, and every kind of rejection."""
    await insert(database, slot(1, 10), slot(2, 4))
    await insert(database, slot(1, 9), _id=MOVIE)
    await book(store, ask("a"), ask("b", people=3), ask("c", slot=2, people=4), ask("d", people=9))
    await book(store, ask("e", movie=str(MOVIE)), ask("f", movie="nowhere"), ask("g", slot=7))
    await book(store, ask("h", expires_at=NOW - SECOND), faulty("i"), faulty("j", field="movieId"))
    await book(store, ask("k"), ask("l", slot=2))
    return store


async def violations(settings: Settings, shown: Shown) -> list[str]:
    shown.readouterr()
    with suppress(InvariantsViolated):
        await audit_database(settings)
    return [line for line in shown.readouterr().out.splitlines() if line.startswith("I")]


async def test_an_audit_of_what_workers_wrote_finds_no_violation(
    busy: Store, settings: Settings, capsys: Shown
) -> None:
    assert busy
    await audit_database(settings)
    shown = capsys.readouterr().out
    assert "audited 12 ledger entries, 2 movies and 3 time slots in " in shown
    assert [line.split("│")[2].strip() for line in shown.splitlines() if "│ I" in line] == ["0"] * 4


Damage = Callable[[Database], Awaitable[object]]


def movie_changed(change: dict[str, Any], key: object = "heat") -> Damage:
    return lambda database: database.movies.update_one(
        {"_id": key}, change, bypass_document_validation=True
    )


def entry_changed(request_id: str, change: dict[str, Any]) -> Damage:
    return lambda database: database.reservations.update_one({"_id": request_id}, change)


DAMAGE: Final[dict[str, tuple[Damage, list[str]]]] = {
    "more booked than there are seats": (
        movie_changed({"$set": {"timeSlots.1.capacity": 3}}),
        ["I1 movie heat, time slot 2: bookedCount is 4 of 3 seats"],
    ),
    "a negative number of seats": (
        movie_changed({"$set": {"timeSlots.0.bookedCount": -1}}),
        [
            "I1 movie heat, time slot 1: bookedCount is -1",
            "I2 movie heat, time slot 1: bookedCount is -1, but 7 people are confirmed and 0 were",
        ],
    ),
    "a seat too many": (
        movie_changed({"$inc": {"timeSlots.0.bookedCount": 1}}, MOVIE),
        [f"I2 movie {MOVIE}, time slot 1: bookedCount is 3, but 2 people are confirmed"],
    ),
    "a lost entry": (
        lambda database: database.reservations.delete_one({"_id": "b"}),
        ["I2 movie heat, time slot 1: bookedCount is 7, but 4 people are confirmed and 0 were"],
    ),
    "seats that do not follow one another": (
        entry_changed("b", {"$set": {"seatsAvailable": 4}}),
        ["I3 movie heat, time slot 1: the seats that the confirmations of version 8 left do not"],
    ),
    "a time slot that is gone": (
        movie_changed({"$pull": {"timeSlots": {"id": 2}}}),
        ["I2 movie heat, time slot 2: the time slot is gone, but 4 people are confirmed for it"],
    ),
    "a movie that is gone": (
        lambda database: database.movies.delete_one({"_id": MOVIE}),
        [f"I2 movie {MOVIE}: the movie is gone, but 2 people are confirmed for it"],
    ),
    "a version that went back": (
        movie_changed({"$set": {"version": 8}}),
        [
            "I6 movie heat: version is 8, but request k was decided at version 9",
            "I2 movie heat, time slot 1: bookedCount is 7, but 5 people are confirmed and 0 were",
        ],
    ),
    "two commits of one version": (
        entry_changed("k", {"$set": {"movieVersion": 8}}),
        ["I6 movie heat, request k: request a was confirmed at the same version, 8, but at"],
    ),
    "a changed number of people": (
        entry_changed("e", {"$set": {"numberOfPeople": 1}}),
        [f"I2 movie {MOVIE}, time slot 1: bookedCount is 2, but 1 people are confirmed"],
    ),
    "an entry that lacks something": (
        entry_changed("d", {"$unset": {"reason": 1}}),
        ["I3 request d: outcome 'rejected' and reason missing do not go together"],
    ),
    "a version that is no number": (
        movie_changed({"$set": {"version": "9"}}),
        ["I6 movie heat: version is '9', not a whole number"],
    ),
    "a capacity that is no number": (
        movie_changed({"$set": {"timeSlots.0.capacity": "many"}}),
        ["I1 movie heat, time slot 1: capacity is 'many', not a whole number"],
    ),
    "two time slots of one id": (
        movie_changed({"$set": {"timeSlots.1.id": 1}}),
        [
            "I1 movie heat, time slot 1: 2 time slots have this id",
            "I2 movie heat, time slot 2: the time slot is gone, but 4 people are confirmed for it",
        ],
    ),
    "two movies of one name": (
        lambda database: database.movies.insert_one({"_id": str(MOVIE), "timeSlots": []}),
        [f"I2 movie {MOVIE}: both a text and an ObjectId are movies of this name"],
    ),
}


@pytest.mark.parametrize("kind", DAMAGE)
async def test_damage_is_found_and_nothing_else_is(
    busy: Store, database: Database, settings: Settings, capsys: Shown, kind: str
) -> None:
    assert busy
    damage, expected = DAMAGE[kind]
    # These tests decide at a fixed time, but two commits have different times.
    await database.reservations.update_one({"_id": "k"}, {"$set": {"decidedAt": NOW + SECOND}})
    assert await violations(settings, capsys) == []
    await damage(database)
    found = await violations(settings, capsys)
    assert len(found) == len(expected), found
    for line, beginning in zip(found, expected, strict=True):
        assert line.startswith(beginning)


async def test_violations_are_counted_and_listed_up_to_the_limit(
    busy: Store, database: Database, settings: Settings, capsys: Shown
) -> None:
    assert busy
    await database.reservations.delete_many({"outcome": "confirmed"})
    with pytest.raises(InvariantsViolated, match=r"^3 violations, 1 of them not shown") as failure:
        await audit_database(settings, limit=2, as_json=True)
    assert failure.value.exit_code == 1
    assert "movies adopt" in str(failure.value)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["invariant"], line["timeSlotId"]) for line in lines] == [("I2", 1)] * 2
    assert await database.reservations.count_documents({}) == 7


async def test_small_ranges_find_the_same_violations_as_a_large_one(
    busy: Store,
    database: Database,
    settings: Settings,
    capsys: Shown,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("alien", "zulu"):
        await insert(database, slot(1, 50), _id=name)
        await book(busy, ask(f"{name}-1", movie=name))
    await insert(database, slot(1, 5, bookedCount=1), _id=7)
    await database.movies.update_many({}, {"$inc": {"timeSlots.0.bookedCount": 1}})
    await database.reservations.update_one({"_id": "f"}, {"$set": {"movieId": 5}})
    # Neighbours by name, although MongoDB sorts strings and ObjectIds apart.
    await insert(database, slot(1, 5), _id=str(MOVIE))
    whole = await violations(settings, capsys)
    monkeypatch.setattr(store_audit, "MOVIES_AT_ONCE", 1)
    monkeypatch.setattr(store_audit, "RANGE_TIME_SLOTS", 1)
    monkeypatch.setattr(store_audit, "ENTRIES_AT_ONCE", 1)
    assert sorted(await violations(settings, capsys)) == sorted(whole)
    assert len(whole) == 5
    with pytest.raises(InvariantsViolated):
        await audit_database(settings)
    assert "audited 14 ledger entries, 6 movies and 7 time slots" in capsys.readouterr().out


async def test_an_empty_database_counts_as_a_wrong_setting(
    servers: Servers,
) -> None:
    nowhere = Settings(mongodb_uri=servers.mongodb_uri, mongodb_database="test-nowhere")
    with pytest.raises(BadInput, match="test-nowhere has no movies and no ledger"):
        await audit_database(nowhere)


async def test_an_audit_without_mongodb_ends_with_an_error() -> None:
    away = "mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=100"
    with pytest.raises(StoreUnusable, match="cannot be reached"):
        await audit_database(Settings(mongodb_uri=away))


async def test_running_workers_neither_cause_nor_hide_violations(
    cinema: Cinema, capsys: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(mongodb_uri=cinema.mongodb_uri, mongodb_database=cinema.database.name)
    monkeypatch.setattr(store_audit, "ENTRIES_AT_ONCE", 100)
    book_meanwhile(cinema, monkeypatch)
    hot = await cinema.show(*slots(100_000, 100_000))
    await cinema.start_workers(2, BATCH_SIZE="20")
    stop = asyncio.Event()
    ids: list[str] = []

    async def keep_sending() -> None:
        while not stop.is_set():
            requests = [request_for(hot, slot=1 + n % 2) for n in range(200)]
            # Movies are added while the audit reads.
            requests += [request_for(await cinema.show(*slots(3)), people=2)]
            ids.extend(request["requestId"] for request in requests)
            await cinema.client.publish_all(requests)

    sending = asyncio.create_task(keep_sending())
    try:
        for _ in range(5):
            assert await violations(settings, capsys) == []
        await cinema.database.movies.update_one(
            {"_id": hot}, {"$inc": {"timeSlots.0.bookedCount": 1, "version": 1}}
        )
        found = await violations(settings, capsys)
    finally:
        stop.set()
        await sending
    assert len(found) == 1
    assert found[0].startswith(f"I2 movie {hot}, time slot 1: bookedCount is ")
    await cinema.client.outcomes(ids)
