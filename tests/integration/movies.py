"""Helpers to store a movie, to decide requests for it with the real store, and to read it."""

from __future__ import annotations

from typing import Any

import pytest
from pymongo.asynchronous.database import AsyncDatabase

from tests.acceptance.cinema import Cinema
from tests.unit.values import NOW
from worker.rules.decision import Decided, Request, decide
from worker.rules.snapshot import Movie
from worker.store.audit import AuditReader, MovieRange
from worker.store.store import Store

Document = dict[str, Any]
Database = AsyncDatabase[Document]


def slot(number: object = 1, capacity: object = 10, **others: object) -> Document:
    return {"id": number, "capacity": capacity, **others}


async def insert(database: Database, *time_slots: object, **fields: object) -> None:
    """Insert a movie, bypassing the validator."""
    document = {"_id": "heat", "version": 7, "timeSlots": list(time_slots), **fields}
    await database.movies.insert_one(document, bypass_document_validation=True)


def book_meanwhile(cinema: Cinema, monkeypatch: pytest.MonkeyPatch, number: int = 100) -> None:
    """Make every audit wait, between movies and ledger, for ``number`` more events."""
    real = AuditReader.opening_balances

    async def after_more_bookings(self: AuditReader, movie_range: MovieRange) -> list[Document]:
        await cinema.client.events_of(len(cinema.client.events) + number)
        return await real(self, movie_range)

    monkeypatch.setattr(AuditReader, "opening_balances", after_more_bookings)


async def decided(store: Store, *requests: Request) -> Decided:
    movie_ids = {request.movie_id for request in requests if request.movie_id}
    snapshot = await store.read(movie_ids, {request.request_id for request in requests})
    return decide(requests, snapshot, NOW)


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
