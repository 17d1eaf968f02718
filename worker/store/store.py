"""Reads what a batch needs, and commits what was decided about it.

Owns the client, its options and its transactions; knows nothing of RabbitMQ, of retries, or of
why a request was confirmed. Every driver call of the project is in this package, so that the move
from motor to PyMongo's own asynchronous client is a change of one place.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection, Sequence
from typing import Any, Final, Self

from motor.motor_asyncio import AsyncIOMotorClient, AsyncIOMotorClientSession
from pymongo import ReadPreference, WriteConcern
from pymongo.errors import PyMongoError
from pymongo.read_concern import ReadConcern

from contracts import OutcomeEvent
from worker.errors import Conflict, StoreUnusable
from worker.rules.decision import Booking
from worker.rules.snapshot import Malformed, Movie, Snapshot
from worker.store import documents
from worker.store.abandoned import APP_NAME, abort_abandoned_transactions
from worker.store.client import client_of
from worker.store.documents import Document
from worker.store.driver_failures import translated_failures
from worker.store.movie_changes import MovieWriter
from worker.store.preparation import prepare_collections, require_transactions
from worker.store.privileges import require_majority, require_privileges

MOVIES: Final = "movies"
LEDGER: Final = "reservations"

OPERATION_TIMEOUT_SECONDS: Final = 10
"""For one command with the driver's own retries: far longer than a healthy commit takes, and short
enough to notice a server that has silently gone while the broker still waits for the batch."""

SERVER_SELECTION_TIMEOUT_SECONDS: Final = 5
"""How long a command waits for a primary: an election takes about as long (12 s at most)."""

MONITOR_SECONDS: Final = 5
"""How often the driver checks each server, and how long it waits for the reply. A server that has
silently gone is given up after both, with all connections to it, and not after half a minute;
otherwise every pooled connection would have to run into its own timeout."""

CLOSE_TIMEOUT_SECONDS: Final = 1
"""How long a stop waits for running commits; one that takes longer is treated as a crash."""

COMMIT_ATTEMPTS: Final = 3
"""A commit whose result is unknown may be sent again; MongoDB applies it once."""


class Store:
    """The movies and the ledger."""

    def __init__(self, client: AsyncIOMotorClient[Document], database: str) -> None:
        self._client = client
        self._database = client.get_database(
            database,
            read_concern=ReadConcern("majority"),
            write_concern=WriteConcern("majority"),
            read_preference=ReadPreference.PRIMARY,
        )
        self._movies = self._database[MOVIES]
        self._ledger = self._database[LEDGER]
        self._commits: set[asyncio.Task[None]] = set()

    @classmethod
    async def open(cls, uri: str, database: str) -> Self:
        """Connect, check that transactions are possible, and create what is missing.

        Raises StoreUnusable when there is no replica set or sharded cluster at ``uri``.
        """
        client = client_of(uri, **_defaults_for(uri), appname=APP_NAME, tz_aware=True)
        store = cls(client, database)
        try:
            await store.prepare()
        except BaseException:
            await store.close()
            raise
        return store

    async def prepare(self) -> None:
        """Prepare for a start; may be repeated, and run in several processes at once."""
        with translated_failures():
            await require_transactions(self._client)
            await prepare_collections(self._database, MOVIES, LEDGER)

    async def require_writes(self) -> None:
        """Raises StoreUnusable while a majority takes no writes, or this user may not write.

        Reads alone would not show this: an update that matches nothing is acknowledged only when
        a majority has all earlier writes.
        """
        with translated_failures():
            await require_privileges(self._movies, self._ledger)

    async def close(self) -> None:
        """Let running commits end, so that no thread is left with an open transaction."""
        if self._commits:
            await asyncio.wait(self._commits, timeout=CLOSE_TIMEOUT_SECONDS)
        self._client.close()

    @property
    def movie_writer(self) -> MovieWriter:
        """The writer of movies, for an import."""
        return MovieWriter(self._movies)

    async def read(self, movie_ids: Collection[str], request_ids: Collection[str]) -> Snapshot:
        """Read what is stored under these ids; raises StoreUnusable."""
        with translated_failures():
            movies, ledger = await asyncio.gather(
                self._read_movies(movie_ids), self.outcomes(request_ids)
            )
        return Snapshot(movies=movies, ledger=ledger)

    async def _read_movies(self, movie_ids: Collection[str]) -> dict[str, Movie | Malformed]:
        if not movie_ids:
            return {}
        keys = [key for movie_id in movie_ids for key in documents.movie_keys(movie_id)]
        cursor = self._movies.find({"_id": {"$in": keys}}, documents.MOVIE_FIELDS)
        return documents.movies_by_id(await cursor.batch_size(len(keys) + 1).to_list(None))

    async def outcomes(self, request_ids: Collection[str]) -> dict[str, OutcomeEvent]:
        """The recorded outcomes of those requests that have one; raises StoreUnusable."""
        if not request_ids:
            return {}
        with translated_failures():
            cursor = self._ledger.find({"_id": {"$in": list(request_ids)}})
            found = await cursor.batch_size(len(request_ids) + 1).to_list(None)
        return {entry["_id"]: documents.ledger_outcome(entry) for entry in found}

    async def newest_outcomes(self, request_ids: Collection[str]) -> dict[str, OutcomeEvent]:
        """Like ``outcomes``, but with all that was written before this call.

        A plain majority read may return an older state. Raises StoreUnusable.
        """
        with translated_failures():
            await require_majority(self._movies)
        return await self.outcomes(request_ids)

    async def commit(self, bookings: Sequence[Booking], outcomes: Sequence[OutcomeEvent]) -> None:
        """Write all of it, majority-committed, or nothing.

        Raises Conflict when another writer was faster, Refused when MongoDB will not store one
        of the documents, StoreUnusable when the result is unknown, which only the ledger can then
        resolve. If the caller is cancelled, the commit runs to its end: its thread cannot be
        stopped, and the transaction must not be abandoned half-way.
        """
        task = asyncio.create_task(self._commit(bookings, outcomes))
        self._commits.add(task)
        task.add_done_callback(self._commits.discard)
        await asyncio.shield(task)

    async def abort_abandoned_transactions(self) -> None:
        """Abort the transactions that dead workers left open and that block the live ones."""
        with translated_failures():
            await abort_abandoned_transactions(self._client)

    async def _commit(self, bookings: Sequence[Booking], outcomes: Sequence[OutcomeEvent]) -> None:
        with translated_failures():
            async with (
                await self._client.start_session() as session,
                # Leaving this block by an exception aborts the transaction.
                session.start_transaction(write_concern=WriteConcern("majority")),
            ):
                await self._write(bookings, outcomes, session)
                await _commit_known(session)

    async def _write(
        self,
        bookings: Sequence[Booking],
        outcomes: Sequence[OutcomeEvent],
        session: AsyncIOMotorClientSession,
    ) -> None:
        if bookings:
            updates = [documents.booking_update(booking) for booking in bookings]
            result = await self._movies.bulk_write(updates, session=session)
            # An update that matched nothing is not an error, so the count must be checked.
            if result.matched_count != len(bookings):
                lost = len(bookings) - result.matched_count
                raise Conflict(f"{lost} of {len(bookings)} movies were changed meanwhile")
        if outcomes:
            entries = [documents.ledger_document(outcome) for outcome in outcomes]
            await self._ledger.insert_many(entries, session=session)


async def _commit_known(session: AsyncIOMotorClientSession) -> None:
    """Commit, and repeat it while the result is unknown, which MongoDB answers correctly."""
    for attempt in range(1, COMMIT_ATTEMPTS + 1):
        try:
            await session.commit_transaction()
        except PyMongoError as failure:
            unknown = failure.has_error_label("UnknownTransactionCommitResult")
            if not unknown:
                raise
            if attempt == COMMIT_ATTEMPTS:
                raise StoreUnusable(
                    f"the result of a commit is not known after {attempt} attempts: {failure}"
                ) from failure
        else:
            return


def _defaults_for(uri: str) -> dict[str, Any]:
    """Client options that the URI itself does not set."""
    defaults = {
        "timeoutMS": OPERATION_TIMEOUT_SECONDS * 1000,
        "serverSelectionTimeoutMS": SERVER_SELECTION_TIMEOUT_SECONDS * 1000,
        "connectTimeoutMS": MONITOR_SECONDS * 1000,
        "heartbeatFrequencyMS": MONITOR_SECONDS * 1000,
    }
    written = uri.lower()
    # Matched with the character before the name, as connectTimeoutMS ends in timeoutMS.
    return {
        name: value
        for name, value in defaults.items()
        if not re.search(rf"[?&;]{name.lower()}=", written)
    }
