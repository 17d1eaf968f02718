"""`movies import` into a real MongoDB, also while others book and change the same movies."""

from __future__ import annotations

import asyncio
import io
import itertools
import json
import sys
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
from bson import ObjectId
from pymongo.asynchronous.collection import AsyncCollection

from tests.acceptance.cinema import Cinema
from tests.unit.fakes import record
from tests.unit.values import ask
from worker.commands.import_movies import BATCH_SIZE, import_documents, import_movies
from worker.errors import BadInput, StoreUnusable
from worker.service.recording import Recorder
from worker.settings import Settings
from worker.store.store import Store

Document = dict[str, Any]
Movies = AsyncCollection[Document]


@pytest.fixture
def settings(cinema: Cinema) -> Settings:
    """Settings with a database of the test's own."""
    return Settings(mongodb_uri=cinema.mongodb_uri, mongodb_database=cinema.database.name)


@pytest.fixture
def movies(cinema: Cinema) -> Movies:
    """The stored movies, none at first."""
    return cinema.database.movies


def movie(name: object = "heat", *slots: Document, **fields: object) -> Document:
    return {"_id": name, **fields, "timeSlots": list(slots)}


def slot(number: int = 1, capacity: int = 10, **fields: object) -> Document:
    return {"id": number, "capacity": capacity, **fields}


async def stored(movies: Movies, name: object = "heat") -> Document:
    found = await movies.find_one({"_id": name})
    assert found is not None
    return found


def file_of(folder: Path, *documents: Mapping[str, Any]) -> str:
    file = folder / "movies.jsonl"
    file.write_text("\n".join(json.dumps(document) for document in documents))
    return str(file)


def after_the_first_read(
    monkeypatch: pytest.MonkeyPatch, meddle: Callable[[], Coroutine[Any, Any, object]]
) -> None:
    """Let another writer act between the first read and the first write of an import."""
    real = Store.read
    waiting = [meddle]

    async def read_then_meddle(self: Store, *ids: Any) -> object:  # noqa: ANN401
        reading = await real(self, *ids)
        while waiting:
            await waiting.pop()()
        return reading

    monkeypatch.setattr(Store, "read", read_then_meddle)


async def test_an_import_counts_new_changed_and_unchanged_movies(
    settings: Settings, movies: Movies, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await import_documents(settings, [movie("heat", slot(1, 10)), movie("alien", slot())])
    file = file_of(tmp_path, movie("heat", slot(1, 11)), movie("alien", slot()), movie("jaws"))
    await import_movies(settings, file)
    shown = capsys.readouterr()
    assert shown.out == "imported 3 movies: 1 new, 1 changed, 1 unchanged\n"
    assert shown.err == ""
    assert [(await stored(movies, name))["version"] for name in ("heat", "alien")] == [1, 0]


async def test_a_new_movie_is_stored_with_every_field_of_the_file(
    settings: Settings, movies: Movies
) -> None:
    key = ObjectId()
    await import_documents(
        settings,
        [movie("heat", slot(1, 10, hall="A"), title="Heat"), movie({"$oid": str(key)}, version=3)],
    )
    assert await stored(movies) == {
        "_id": "heat",
        "title": "Heat",
        "version": 0,
        "timeSlots": [{"id": 1, "capacity": 10, "hall": "A", "bookedCount": 0}],
    }
    assert await stored(movies, key) == {"_id": key, "version": 3, "timeSlots": []}


async def test_a_changed_movie_keeps_its_bookings_fields_and_order(
    settings: Settings, movies: Movies
) -> None:
    before = [slot(1, 10, bookedCount=4, hall="A"), slot(2, 5, bookedCount=5), slot(3, 7)]
    await movies.insert_one(movie("heat", *before, version=41, title="Heat"))
    given = [slot(9, 30, bookedCount=2, name="$x"), slot(2, 6, hall="Z"), slot(1, 4, bookedCount=0)]
    assert await import_documents(settings, [movie("heat", *given, title="Cold")]) == {"changed": 1}
    assert await stored(movies) == {
        "_id": "heat",
        "version": 42,
        "title": "Heat",
        "timeSlots": [
            slot(1, 4, bookedCount=4, hall="A"),
            slot(2, 6, bookedCount=5),
            slot(3, 7),
            slot(9, 30, bookedCount=2, name="$x"),
        ],
    }


@pytest.mark.parametrize(
    "before",
    [
        {"_id": "heat"},
        {"_id": "heat", "timeSlots": None},
        {"_id": "heat", "version": 0.0, "timeSlots": [{"id": 1.0, "capacity": 2.0}]},
        {"_id": "heat", "timeSlots": [{"id": 1, "capacity": 2}, "junk"]},
    ],
    ids=["no time slots", "null", "numbers of the shell", "junk among the time slots"],
)
async def test_a_movie_is_changed_however_others_stored_it(
    settings: Settings, movies: Movies, before: Document
) -> None:
    await movies.insert_one(before)
    given = [slot(1, 20), slot(2, 30)]
    assert await import_documents(settings, [movie("heat", *given)]) == {"changed": 1}
    after = await stored(movies)
    capacities = {s["id"]: s["capacity"] for s in after["timeSlots"] if isinstance(s, dict)}
    assert (after["version"], capacities) == (1, {1: 20, 2: 30})
    assert ("junk" in after["timeSlots"]) == ("junk" in (before.get("timeSlots") or []))


async def test_a_file_with_a_fault_writes_nothing(
    settings: Settings, movies: Movies, tmp_path: Path
) -> None:
    file = file_of(tmp_path, movie("alien"), movie("heat", slot(1, -1)))
    with pytest.raises(BadInput, match="line 2: time slot 1: capacity must be"):
        await import_movies(settings, file)
    assert await movies.count_documents({}) == 0


async def test_a_capacity_below_the_bookings_refuses_only_its_movie(
    settings: Settings, movies: Movies, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await movies.insert_one(movie("heat", slot(1, 10, bookedCount=4), version=1))
    file = file_of(tmp_path, movie("alien"), movie("heat", slot(1, 3), slot(2)), movie("jaws"))
    with pytest.raises(BadInput) as raised:
        await import_movies(settings, file)
    assert raised.value.exit_code == 2
    assert "line 2, movie heat: time slot 1: a capacity of 3 is below the 4" in str(raised.value)
    assert capsys.readouterr().out == "imported 2 movies: 2 new, 0 changed, 0 unchanged\n"
    assert await stored(movies) == movie("heat", slot(1, 10, bookedCount=4), version=1)


async def test_what_mongodb_refuses_is_reported_with_its_line(
    settings: Settings, movies: Movies, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rule = {"$jsonSchema": {"required": ["title"]}}
    await movies.database.create_collection("movies", validator=rule, validationLevel="strict")
    before = [movie("alien"), movie("up", title="Up")]
    await movies.insert_many(before, bypass_document_validation=True)
    new = [movie("heat"), movie("jaws", title="Jaws")]
    file = file_of(tmp_path, *new, movie("alien", slot()), movie("up", slot()))
    with pytest.raises(BadInput, match="error 121") as raised:
        await import_movies(settings, file)
    places = [line.partition(":")[0].strip() for line in str(raised.value).splitlines()[1:]]
    assert places == ["line 1, movie heat", "line 3, movie alien"]
    assert capsys.readouterr().out == "imported 2 movies: 1 new, 1 changed, 0 unchanged\n"
    assert await movies.distinct("_id") == ["alien", "jaws", "up"]


class Race(NamedTuple):
    """What another writer does between the read and the write, and what both result in."""

    meddling: Document
    given: Document
    after: list[Document]
    refusal: str = ""


THREE_BOOKED: Final = {"timeSlots.0.bookedCount": 3}
NEW_VERSION: Final = {"version": 1}
SLOT_2: Final = {"$push": {"timeSlots": slot(2, 10, bookedCount=3)}}
BOTH_SLOTS: Final = [slot(1, bookedCount=4), slot(2, 12, bookedCount=3)]
TOO_SMALL: Final = "a capacity of 5 is below the 7 seats"
RACES: Final = {
    "a booking is kept": Race(
        {"$inc": NEW_VERSION | THREE_BOOKED}, slot(1, 8), [slot(1, 8, bookedCount=7)]
    ),
    "a booking that needs the seats is kept": Race(
        {"$inc": NEW_VERSION | THREE_BOOKED}, slot(1, 5), [slot(1, bookedCount=7)], TOO_SMALL
    ),
    "a booking that leaves the version alone is kept, too": Race(
        {"$inc": THREE_BOOKED}, slot(1, 5), [slot(1, bookedCount=7)], TOO_SMALL
    ),
    "a slot is not added twice": Race(SLOT_2 | {"$inc": NEW_VERSION}, slot(2, 12), BOTH_SLOTS),
    "a slot is not added twice, even at the same version": Race(SLOT_2, slot(2, 12), BOTH_SLOTS),
}


@pytest.mark.parametrize("race", RACES.values(), ids=RACES.keys())
async def test_what_others_write_during_an_import_is_kept(
    settings: Settings, movies: Movies, monkeypatch: pytest.MonkeyPatch, race: Race
) -> None:
    await movies.insert_one(movie("heat", slot(1, 10, bookedCount=4), version=1))
    after_the_first_read(monkeypatch, lambda: movies.update_one({"_id": "heat"}, race.meddling))
    importing = import_documents(settings, [movie("heat", race.given)])
    if race.refusal:
        with pytest.raises(BadInput, match=race.refusal):
            await importing
    else:
        assert await importing == {"changed": 1}
    version = 1 + race.meddling.get("$inc", {}).get("version", 0) + (0 if race.refusal else 1)
    assert await stored(movies) == movie("heat", *race.after, version=version)


async def test_a_movie_added_during_the_import_is_changed_instead(
    settings: Settings, movies: Movies, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = movie("heat", slot(1, 10, bookedCount=3), version=5)
    after_the_first_read(monkeypatch, lambda: movies.insert_one(theirs))
    given = [movie("alien"), movie("heat", slot(1, 12))]
    assert await import_documents(settings, given) == {"new": 1, "changed": 1}
    assert await stored(movies) == movie("heat", slot(1, 12, bookedCount=3), version=6)


async def test_an_import_succeeds_while_a_movie_is_booked_constantly(
    settings: Settings, movies: Movies
) -> None:
    await import_documents(settings, [movie("heat", slot(1, 10_000)), movie("alien", slot())])
    store = await Store.open(settings.mongodb_uri, settings.mongodb_database)
    done = asyncio.Event()

    async def book() -> int:
        requests = (ask(f"r{number}", people=1) for number in itertools.count())
        while not done.is_set():
            await record(Recorder(store), [next(requests)])
        return int(next(requests).request_id[1:])

    booking = asyncio.create_task(book())
    try:
        given = [movie("heat", slot(1, 20_000), slot(2)), movie("alien", slot(1, 20))]
        assert await import_documents(settings, given) == {"changed": 2}
    finally:
        done.set()
        booked = await booking
        await store.close()
    after = await stored(movies)
    assert after["timeSlots"] == [slot(1, 20_000, bookedCount=booked), slot(2, bookedCount=0)]
    assert after["version"] == booked + 1


async def test_a_movie_that_others_keep_changing_is_finally_refused(
    settings: Settings, movies: Movies, monkeypatch: pytest.MonkeyPatch
) -> None:
    await movies.insert_one(movie("heat", version=1))
    monkeypatch.setattr("worker.commands.import_movies.LOST_RACES_SECONDS", 0)
    raising = {"$inc": {"version": 1}}
    after_the_first_read(monkeypatch, lambda: movies.update_one({"_id": "heat"}, raising))
    with pytest.raises(BadInput, match="movie heat: other writers kept changing it"):
        await import_documents(settings, [movie("heat", slot())])
    assert await stored(movies) == movie("heat", version=2)


async def test_more_movies_than_one_batch_are_imported(settings: Settings, movies: Movies) -> None:
    given = [movie(f"m{number}", slot()) for number in range(2 * BATCH_SIZE + 1)]
    assert await import_documents(settings, given) == {"new": len(given)}
    assert await movies.count_documents({"timeSlots.0.capacity": 10}) == len(given)


async def test_an_import_without_mongodb_ends_with_an_error() -> None:
    nowhere = Settings(mongodb_uri="mongodb://127.0.0.1:1/?timeoutMS=50")
    with pytest.raises(StoreUnusable, match="MongoDB cannot be reached"):
        await import_documents(nowhere, [movie()])


async def test_standard_input_can_be_imported(
    settings: Settings, movies: Movies, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = json.dumps([movie("heat"), movie("alien")]).encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    await import_movies(settings, "-")
    assert await movies.distinct("_id") == ["alien", "heat"]
