"""The simulated MongoDB compared with a real one: the same commands give the same answers."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, Final, Protocol

import pytest
from pymongo import AsyncMongoClient, UpdateOne
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import BulkWriteError, OperationFailure

from tests.simulation.matching import Document, finds, updated
from tests.simulation.mongod import Mongod, Transaction
from tests.simulation.workload import draw_edits, draw_movies
from tests.simulation.world import World
from worker.rules.decision import Booking
from worker.rules.snapshot import Movie, TimeSlot
from worker.store.documents import MOVIE_VALIDATOR, booking_update, movies_by_id

CASES: Final = 300

Database = AsyncDatabase[dict[str, Any]]


def drawn_case(chance: random.Random, number: int) -> tuple[Document, UpdateOne] | None:
    """A stored movie, and the update for a booking that may have read it before an edit."""
    ((_, read),) = draw_movies(chance, 1).items()
    read = {**read, "_id": f"movie-{number}"}
    (movie,) = movies_by_id([read]).values()
    assert isinstance(movie, Movie)
    slots = [i for i, slot in movie.time_slots.items() if isinstance(slot, TimeSlot)]
    people = {i: chance.randint(1, 3) for i in chance.sample(slots, chance.randint(1, len(slots)))}
    stored: Document | None = read
    for edit in draw_edits(chance, [read], chance.choice((0, 0, 1, 2)), 1):
        stored = edit.change(stored)
    return None if stored is None else (stored, booking_update(Booking(movie, people)))


async def test_filters_and_updates_have_the_same_effect_as_in_mongodb(database: Database) -> None:
    chance = random.Random(4)
    cases = [case for number in range(CASES) if (case := drawn_case(chance, number))]
    expected = {
        movie["_id"]: updated(movie, update) if finds(movie, update) else movie
        for movie, update in cases
    }
    await database.movies.insert_many([movie for movie, _ in cases])
    result = await database.movies.bulk_write([update for _, update in cases])
    found = {movie["_id"]: movie async for movie in database.movies.find()}
    assert found == expected
    assert 0 < result.matched_count == sum(finds(movie, update) for movie, update in cases) < CASES


MOVIES: Final[dict[object, Document]] = {
    "heat": {"_id": "heat", "version": 1, "timeSlots": [{"id": 1, "capacity": 3}]},
    "jaws": {"_id": "jaws", "version": 1, "timeSlots": [{"id": 1, "capacity": 3}]},
}


def booking(name: str, people: int) -> UpdateOne:
    movie = Movie(name, 1, {1: TimeSlot(3, 0)})
    return booking_update(Booking(movie, {1: people}))


class Server(Protocol):
    """The commands of two clients, A and B, each in a transaction of its own."""

    async def update(self, client: str, name: str, people: int) -> int: ...
    async def insert(self, client: str, name: str) -> object: ...
    async def commit(self, client: str) -> object: ...


class RealServer:
    """A real replica set."""

    def __init__(self, database: Database, sessions: dict[str, AsyncClientSession]) -> None:
        self._database = database
        self._sessions = sessions

    async def update(self, client: str, name: str, people: int) -> int:
        updates = [booking(name, people)]
        result = await self._database.movies.bulk_write(updates, session=self._sessions[client])
        return result.matched_count

    async def insert(self, client: str, name: str) -> None:
        session = self._sessions[client]
        await self._database.reservations.insert_many([{"_id": name}], session=session)

    async def commit(self, client: str) -> None:
        await self._sessions[client].commit_transaction()


class SimulatedServer:
    """The simulated replica set."""

    def __init__(self) -> None:
        self._mongod = Mongod(World(1), MOVIES)
        self._transactions = {"A": Transaction(), "B": Transaction()}

    async def update(self, client: str, name: str, people: int) -> int:
        return self._mongod.update(self._transactions[client], [booking(name, people)])

    async def insert(self, client: str, name: str) -> None:
        self._mongod.insert(self._transactions[client], [{"_id": name}])

    async def commit(self, client: str) -> None:
        self._mongod.commit(self._transactions[client])


Step = tuple[str, str] | tuple[str, str, str] | tuple[str, str, str, int]


async def answers(server: Server, steps: Sequence[Step]) -> list[object]:
    """The answer to each step: its result, or the server's error."""
    given: list[object] = []
    for client, what, *arguments in steps:
        try:
            given.append(await getattr(server, what)(client, *arguments))
        except BulkWriteError as failure:
            given.append(failure.details["writeErrors"][0]["code"])
        except OperationFailure as failure:
            given.append((failure.code, failure.has_error_label("TransientTransactionError")))
    return given


@pytest.mark.parametrize(
    "steps",
    [
        pytest.param([("A", "update", "heat", 1), ("B", "update", "heat", 1)], id="both update"),
        pytest.param([("A", "insert", "r"), ("B", "insert", "r")], id="both insert"),
        pytest.param(
            [("A", "insert", "r"), ("A", "commit"), ("B", "insert", "r")], id="inserted before"
        ),
        pytest.param(
            [
                ("B", "update", "jaws", 1),
                ("A", "insert", "r"),
                ("A", "commit"),
                ("B", "insert", "r"),
            ],
            id="inserted since the snapshot",
        ),
        pytest.param(
            [
                ("B", "update", "jaws", 1),
                ("A", "update", "heat", 1),
                ("A", "commit"),
                ("B", "update", "heat", 1),
            ],
            id="updated since the snapshot",
        ),
        pytest.param(
            [("A", "update", "heat", 1), ("A", "commit"), ("B", "update", "heat", 1)],
            id="another version",
        ),
        pytest.param(
            [("A", "update", "heat", 1), ("B", "update", "heat", 1), ("B", "update", "jaws", 1)],
            id="after a conflict",
        ),
        pytest.param(
            [("A", "insert", "r"), ("A", "insert", "r"), ("A", "insert", "s")],
            id="after a duplicate",
        ),
        pytest.param(
            [("A", "update", "heat", 1), ("A", "insert", "r"), ("A", "commit"), ("A", "commit")],
            id="committed twice",
        ),
        pytest.param([("A", "update", "heat", 4), ("A", "insert", "r")], id="validator"),
    ],
)
async def test_transactions_conflict_as_they_do_in_mongodb(
    database: Database, mongo: AsyncMongoClient[dict[str, Any]], steps: Sequence[Step]
) -> None:
    await database.create_collection("movies", validator=MOVIE_VALIDATOR)
    await database.create_collection("reservations")
    await database.movies.insert_many(MOVIES.values())
    async with mongo.start_session() as a, mongo.start_session() as b:
        for session in (a, b):
            await session.start_transaction()
        real = await answers(RealServer(database, {"A": a, "B": b}), steps)
        for session in (a, b):
            if session.in_transaction:
                await session.abort_transaction()
    assert await answers(SimulatedServer(), steps) == real
