"""The database of a measurement: its content before, and a check of its consistency after.

The speed of a contestant that loses or invents bookings means nothing, so the check is part of
every measurement. It shares no code with any contestant.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase

from tests.benchmarks.failures import BenchmarkFailed
from tests.benchmarks.workloads import SEATS_OF_A_FULL_SLOT, Workload

INSERT_CHUNK: Final = 10_000

Document = dict[str, Any]


class BenchmarkDatabase:
    """The movies and the ledger of one database."""

    def __init__(self, client: AsyncMongoClient[Document], database: str) -> None:
        self._client = client
        self._database: AsyncDatabase[Document] = client[database]
        self._full = False

    async def insert_movies(self, workload: Workload) -> None:
        """Insert all movies of the workload."""
        self._full = workload.sold_out
        await self._insert("movies", workload.movie_documents())

    async def insert_entries(self, count: int) -> None:
        """Insert so many past outcomes, and flush them to disk before anything is timed."""
        await self._insert("reservations", itertools.islice(_entries(), count))
        await self._client.admin.command("fsync")

    async def check_consistency(self) -> None:
        """Raises BenchmarkFailed unless the booked seats are those of the confirmed people."""
        confirmed = await self._sum(
            "reservations",
            {"$match": {"outcome": "confirmed"}},
            {"$group": {"_id": None, "sum": {"$sum": "$numberOfPeople"}}},
        )
        booked = await self._sum(
            "movies",
            {"$unwind": "$timeSlots"},
            {"$group": {"_id": None, "sum": {"$sum": "$timeSlots.bookedCount"}}},
        )
        before = SEATS_OF_A_FULL_SLOT if self._full else 0
        if booked - before != confirmed:
            raise BenchmarkFailed(f"{booked - before} seats are booked, {confirmed} are confirmed")
        if not await self._database["reservations"].find_one():
            raise BenchmarkFailed("the ledger is empty")

    async def drop(self) -> None:
        """Drop the database."""
        await self._client.drop_database(self._database)

    async def _insert(self, collection: str, documents: Iterator[Document]) -> None:
        while chunk := list(itertools.islice(documents, INSERT_CHUNK)):
            await self._database[collection].insert_many(chunk, ordered=False)

    async def _sum(self, collection: str, *pipeline: Document) -> int:
        found = await (await self._database[collection].aggregate(list(pipeline))).to_list()
        return int(found[0]["sum"]) if found else 0


@asynccontextmanager
async def open_database(
    uri: str, database: str, *, keep: object = None
) -> AsyncIterator[BenchmarkDatabase]:
    """Open this database, which is dropped at the end unless ``keep`` is true."""
    async with AsyncMongoClient[Document](uri) as client:
        opened = BenchmarkDatabase(client, database)
        try:
            yield opened
        finally:
            if not keep:
                await opened.drop()


def _entries() -> Iterator[Document]:
    chance = random.Random(0)
    while True:
        yield {
            "_id": str(UUID(int=chance.getrandbits(128), version=4)),
            "movieId": f"movie-{chance.randrange(100_000):06}",
            "timeSlotId": chance.randrange(5),
            "numberOfPeople": chance.randint(1, 6),
            "outcome": "confirmed",
            "movieVersion": chance.randrange(1_000),
            "seatsAvailable": chance.randrange(1_000),
            "decidedAt": datetime(2026, 1, 1, tzinfo=UTC),
        }
