"""Adopting movies with booked seats: recorded once, and counted by every audit from then on."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.cinema import Cinema, request_for, slots
from tests.conftest import Servers
from tests.integration.movies import Database, book, book_meanwhile, insert, slot
from tests.unit.values import ask
from worker.commands.audit.adoption import adopt_movies
from worker.commands.audit.findings import audit_database
from worker.commands.import_movies import import_movies
from worker.errors import InvariantsViolated, NotAdopted
from worker.settings import Settings
from worker.store.store import Store

Shown = pytest.CaptureFixture[str]


@pytest.fixture
def settings(servers: Servers, database: Database) -> Settings:
    return Settings(mongodb_uri=servers.mongodb_uri, mongodb_database=database.name)


async def balances(database: Database) -> dict[str, int]:
    found = await database.openingBalances.find().to_list(None)
    return {balance["_id"]: balance["bookedCount"] for balance in found}


async def test_seats_from_before_are_violations_until_adopted(
    store: Store, database: Database, settings: Settings, capsys: Shown
) -> None:
    await insert(database, slot(1, 10, bookedCount=4), slot(2, 10))
    await book(store, ask("a"), ask("b", people=3))
    with pytest.raises(InvariantsViolated, match="movies adopt"):
        await audit_database(settings)
    assert "bookedCount is 9, but 5 people are confirmed and 0 were" in capsys.readouterr().out
    await adopt_movies(settings)
    assert capsys.readouterr().out == (
        "recorded the opening balances of 2 time slots in openingBalances: "
        "4 seats booked in 1 of them, none in the others\n"
    )
    await book(store, ask("c"))
    await audit_database(settings)
    (one, two) = await database.openingBalances.find().sort("_id").to_list(None)
    assert {k: v for k, v in one.items() if k != "recordedAt"} == {
        "_id": "heat/1",
        "movieId": "heat",
        "timeSlotId": 1,
        "bookedCount": 4,
        "movieVersion": 8,
    }
    assert (two["_id"], two["bookedCount"]) == ("heat/2", 0)


async def test_adopting_again_records_only_new_time_slots(
    store: Store, database: Database, settings: Settings, capsys: Shown
) -> None:
    assert store
    await insert(database, slot(1, 10, bookedCount=4), slot(2, 10))
    await adopt_movies(settings)
    before = await database.openingBalances.find().sort("_id").to_list(None)
    await database.movies.update_one({}, {"$inc": {"timeSlots.$[].bookedCount": 1}})
    await insert(database, slot(1, 5, bookedCount=2), _id="alien")
    capsys.readouterr()
    await adopt_movies(settings)
    assert capsys.readouterr().out == (
        "recorded the opening balances of 1 time slots in openingBalances: 2 seats booked in 1 of "
        "them, none in the others; 2 were recorded before, and stay as they are\n"
    )
    after = await database.openingBalances.find().sort("_id").to_list(None)
    assert after[1:] == before
    with pytest.raises(InvariantsViolated, match=r"^2 violations; nothing was changed$"):
        await audit_database(settings)


async def test_a_dry_run_prints_the_same_and_records_nothing(
    store: Store, database: Database, settings: Settings, capsys: Shown
) -> None:
    assert store
    await insert(database, slot(1, 10, bookedCount=4))
    await adopt_movies(settings, dry_run=True)
    assert capsys.readouterr().out.startswith("would record the opening balances of 1 time slots")
    assert await balances(database) == {}


async def test_an_impossible_balance_is_refused_the_others_recorded(
    store: Store, database: Database, settings: Settings
) -> None:
    await insert(database, slot(1), slot(2), slot(3, "many"))
    await insert(database, slot(1), _id="alien", version="new")
    await book(store, ask("a", people=3))
    await database.movies.update_one({"_id": "heat"}, {"$set": {"timeSlots.0.bookedCount": 1}})
    with pytest.raises(NotAdopted) as refusal:
        await adopt_movies(settings)
    assert str(refusal.value).splitlines()[1:4] == [
        "  movie alien: version is 'new', not a whole number",
        "  movie heat, time slot 3: see what an audit says",
        "  movie heat, time slot 1: 3 people are confirmed, but bookedCount is 1",
    ]
    assert refusal.value.exit_code == 1
    assert await balances(database) == {"heat/2": 0}


async def test_an_import_of_booked_seats_points_to_adoption(
    settings: Settings, tmp_path: Path, capsys: Shown
) -> None:
    file = tmp_path / "movies.json"
    plain = {"_id": "alien", "timeSlots": [slot(1)]}
    file.write_text(json.dumps([plain]))
    await import_movies(settings, str(file))
    assert capsys.readouterr().err == ""
    file.write_text(json.dumps([plain, {"_id": "heat", "timeSlots": [slot(1, bookedCount=3)]}]))
    await import_movies(settings, str(file))
    assert "`reservation-worker movies adopt`" in capsys.readouterr().err
    with pytest.raises(InvariantsViolated):
        await audit_database(settings)
    await adopt_movies(settings)
    await audit_database(settings)
    capsys.readouterr()
    await import_movies(settings, str(file))
    assert capsys.readouterr().err == ""


async def test_concurrent_adoptions_record_each_balance_once(
    store: Store, database: Database, settings: Settings
) -> None:
    assert store
    for number in range(50):
        await insert(database, slot(1, 10, bookedCount=number % 5), _id=f"movie-{number}")
    await asyncio.gather(*(adopt_movies(settings) for _ in range(4)))
    assert await balances(database) == {f"movie-{n}/1": n % 5 for n in range(50)}


async def test_running_workers_do_not_change_the_opening_balances(
    cinema: Cinema, monkeypatch: pytest.MonkeyPatch
) -> None:
    book_meanwhile(cinema, monkeypatch)
    settings = Settings(mongodb_uri=cinema.mongodb_uri, mongodb_database=cinema.database.name)
    hot = await cinema.show(*slots(10_000, 10_000, booked=7))
    await cinema.start_workers(2, BATCH_SIZE="20")
    requests: list[dict[str, Any]] = [request_for(hot, slot=1 + n % 2) for n in range(1500)]
    await cinema.client.publish_all(requests[:300])
    publishing = asyncio.create_task(cinema.client.publish_all(requests[300:]))
    await cinema.client.events_of(100)
    await adopt_movies(settings)
    await publishing
    await cinema.client.outcomes([request["requestId"] for request in requests])
    assert await balances(cinema.database) == {f"{hot}/1": 7, f"{hot}/2": 7}
    monkeypatch.undo()
    await audit_database(settings)
