"""Movies, opening balances and ledger entries in the order of the movies' names, for an audit.

Owns how much is in memory at once: a range of movies, then the ledger entries of these movies, a
batch at a time. Does not know what must be true of any of it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from pymongo.errors import BulkWriteError

from worker.store.documents import MOVIE_FIELDS, Document, movie_keys
from worker.store.driver_failures import DUPLICATE_KEY, translated_failures
from worker.store.scan import Scan, batches, open_scan
from worker.store.store import LEDGER, MOVIES

OPENING_BALANCES: Final = "openingBalances"

RANGE_TIME_SLOTS: Final = 50_000
"""About 30 MB in memory. The ledger is read once for each range, a part of it each time."""
MOVIES_AT_ONCE: Final = 200
ENTRIES_AT_ONCE: Final = 5000
"""About 5 MB. By default the driver reads 16 MB of documents at once, 100 MB in memory."""

NAME: Final = "name"
"""The field for a movie's id on the wire; None for an ``_id`` that no request can name."""

_NAME_OF_MOVIE: Final = {
    "$cond": [{"$in": [{"$type": "$_id"}, ["string", "objectId"]]}, {"$toString": "$_id"}, None]
}


@dataclass(frozen=True, slots=True)
class MovieRange:
    """Movies with consecutive names: above ``after``, up to ``up_to``; None means no bound."""

    movies: Sequence[Document]
    after: str | None
    up_to: str | None


@dataclass(frozen=True, slots=True)
class OpeningBalance:
    """The seats of a time slot that were booked before the worker was introduced."""

    movie_id: str
    time_slot_id: int
    booked_count: int
    movie_version: int
    recorded_at: datetime


class AuditReader:
    """Reads all that is stored about seats; records what was booked before there was a ledger."""

    def __init__(self, scan: Scan) -> None:
        self._session = scan.session
        self._database = scan.database
        self._movies = scan.database[MOVIES]
        self._ledger = scan.database[LEDGER]
        self._balances = scan.database[OPENING_BALANCES]

    async def holds_data(self) -> bool:
        """Whether the database has a collection of movies or a ledger."""
        with translated_failures():
            names = await self._database.list_collection_names(session=self._session)
        return not {MOVIES, LEDGER}.isdisjoint(names)

    async def entry_count(self) -> int:
        """The approximate number of ledger entries, from the collection's metadata."""
        with translated_failures():
            return await self._ledger.estimated_document_count()

    async def movie_ranges(self) -> AsyncGenerator[MovieRange]:
        """All movies, each as it was at one moment; the last range has no upper bound."""
        pipeline: list[Document] = [
            {"$project": {**MOVIE_FIELDS, NAME: _NAME_OF_MOVIE}},
            {"$sort": {NAME: 1, "_id": 1}},
        ]
        cursor = self._movies.aggregate(
            pipeline, allowDiskUse=True, batchSize=MOVIES_AT_ONCE, session=self._session
        )
        buffered: list[Document] = []
        after: str | None = None
        async for movies in batches(cursor, MOVIES_AT_ONCE):
            buffered += movies
            # Two movies may share a name; a range never ends between them.
            if _time_slot_count(buffered) >= RANGE_TIME_SLOTS and buffered[-1][NAME] is not None:
                last = buffered[-1][NAME]
                complete = [movie for movie in buffered if movie[NAME] != last]
                if complete and complete[-1][NAME] is not None:
                    buffered = buffered[len(complete) :]
                    yield MovieRange(complete, after, complete[-1][NAME])
                    after = complete[-1][NAME]
        yield MovieRange(buffered, after, None)

    async def entries(self, movie_range: MovieRange) -> AsyncGenerator[list[Document]]:
        """The ledger entries of a range by movie and version; first those without a ``movieId``."""
        cursor = self._ledger.find(
            _filter_for(movie_range), session=self._session, batch_size=ENTRIES_AT_ONCE
        )
        ordered = cursor.sort([("movieId", 1), ("movieVersion", 1)]).allow_disk_use(True)
        async for entries in batches(ordered, ENTRIES_AT_ONCE):
            yield entries

    async def opening_balances(self, movie_range: MovieRange) -> list[Document]:
        """The opening balances that are recorded for the time slots of a range."""
        with translated_failures():
            cursor = self._balances.find(_filter_for(movie_range), session=self._session)
            return await cursor.to_list(None)

    async def versions(self, names: Collection[str]) -> dict[str, object]:
        """The current versions of these movies; a movie that does not exist is left out."""
        keys = [key for name in names for key in movie_keys(name)]
        with translated_failures():
            cursor = self._movies.find(
                {"_id": {"$in": keys}}, {"version": 1}, session=self._session
            )
            return {str(m["_id"]): m.get("version", 0) for m in await cursor.to_list(None)}

    async def record(self, balances: Sequence[OpeningBalance]) -> int:
        """Record the balances that are not recorded yet; returns how many those were."""
        if not balances:
            return 0
        with translated_failures():
            try:
                await self._balances.insert_many(
                    [_balance_document(balance) for balance in balances],
                    ordered=False,
                    session=self._session,
                )
            except BulkWriteError as failure:
                errors = failure.details["writeErrors"]
                if not errors or any(error["code"] != DUPLICATE_KEY for error in errors):
                    raise
                # Another adoption runs at the same time; what is recorded stays as it is.
                return len(balances) - len(errors)
        return len(balances)


@asynccontextmanager
async def open_audit_reader(uri: str, database: str) -> AsyncGenerator[AuditReader]:
    """A reader of a database; raises StoreUnusable."""
    async with open_scan(uri, database) as scan:
        yield AuditReader(scan)


def _filter_for(movie_range: MovieRange) -> Document:
    """The filter for documents whose ``movieId`` falls into a range, whether or not it exists."""
    bounds: Document = {}
    if movie_range.after is not None:
        bounds["$gt"] = movie_range.after
    if movie_range.up_to is not None:
        bounds["$lte"] = movie_range.up_to
    if movie_range.after is not None:
        return {"movieId": bounds}
    # A comparison with a string matches strings only, so the first range adds all other values.
    no_name = {"movieId": {"$not": {"$type": "string"}}}
    return {"$or": [{"movieId": bounds}, no_name]} if bounds else {}


def _time_slot_count(movies: Sequence[Document]) -> int:
    return sum(len(m["timeSlots"]) for m in movies if isinstance(m.get("timeSlots"), list))


def _balance_document(balance: OpeningBalance) -> Document:
    return {
        # The slot id follows the last slash, so no two time slots share this key.
        "_id": f"{balance.movie_id}/{balance.time_slot_id}",
        "movieId": balance.movie_id,
        "timeSlotId": balance.time_slot_id,
        "bookedCount": balance.booked_count,
        "movieVersion": balance.movie_version,
        "recordedAt": balance.recorded_at,
    }
