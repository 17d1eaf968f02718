"""Short ways to store a movie, to decide upon it with the real store, and to look at it again."""

from __future__ import annotations

from typing import Any

from pymongo.asynchronous.database import AsyncDatabase

from tests.unit.values import NOW
from worker.decision import Decided, Movie, Request, decide
from worker.store import Store

Document = dict[str, Any]
Database = AsyncDatabase[Document]


def slot(number: object = 1, capacity: object = 10, **others: object) -> Document:
    return {"id": number, "capacity": capacity, **others}


async def insert(database: Database, *time_slots: object, **fields: object) -> None:
    """A movie, past every rule for what may be stored."""
    document = {"_id": "heat", "version": 7, "timeSlots": list(time_slots), **fields}
    await database.movies.insert_one(document, bypass_document_validation=True)


async def decided(store: Store, *requests: Request) -> Decided:
    movie_ids = {request.movie_id for request in requests if request.movie_id}
    reading = await store.read(movie_ids, {request.request_id for request in requests})
    return decide(requests, reading.movies, reading.ledger, NOW)


async def commit(store: Store, decision: Decided) -> None:
    await store.commit(decision.bookings, decision.outcomes)


async def book(store: Store, *requests: Request) -> None:
    await commit(store, await decided(store, *requests))


async def the_movie(database: Database, key: object = "heat") -> Document:
    found = await database.movies.find_one({"_id": key})
    assert found is not None
    return found


async def read_movie(store: Store, name: str = "heat") -> Movie:
    movie = (await store.read([name], [])).movies[name]
    assert isinstance(movie, Movie)
    return movie
