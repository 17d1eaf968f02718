"""The worker's store on a simulated replica set: the same commands, through a simulated network.

Uses the worker's own documents, updates and errors (``documents`` and ``driver_failures`` of
``worker.store`` are the real ones), and follows the order of the real store's commands: both
collections are read concurrently, a commit is one transaction that is committed again while its
result is unknown, and it runs to its end even if its caller has been cancelled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from typing import Final, TypeVar

from pymongo.errors import AutoReconnect, PyMongoError

from contracts import OutcomeEvent
from tests.simulation.matching import Document
from tests.simulation.mongod import Mongod, Transaction
from tests.simulation.roundtrip import Client, MajorityRoundTrip, RoundTrip
from tests.simulation.world import World
from worker.errors import Conflict, StoreUnusable
from worker.rules.decision import Booking
from worker.rules.snapshot import Snapshot
from worker.store import documents
from worker.store.abandoned import ABANDONED_AFTER_SECONDS
from worker.store.driver_failures import translated_failures

COMMIT_ATTEMPTS: Final = 3
UNKNOWN_RESULT: Final = "UnknownTransactionCommitResult"

T = TypeVar("T")


class SimulatedStore:
    """What ``worker.service.runtime`` and ``worker.service.recording`` need of the store."""

    ledger_is_read_locally = False
    """For a mutation: without a majority a ledger entry may still be rolled back."""

    def __init__(self, world: World, mongod: Mongod, client: Client) -> None:
        self.world = world
        self.mongod = mongod
        self._client = client
        self._commits: set[asyncio.Task[None]] = set()

    async def prepare(self) -> None:
        """Ask the server, and nothing else: the collections exist."""
        with translated_failures():
            await self._ask(self.mongod.ping)

    async def require_writes(self) -> None:
        """Raises StoreUnusable while there is no primary."""
        await self.prepare()

    async def close(self) -> None:
        """There is nothing to close."""

    def kill(self) -> None:
        """End the commits that are in flight, as the process is gone."""
        for commit in self._commits:
            commit.cancel()

    async def read(self, movie_ids: Collection[str], request_ids: Collection[str]) -> Snapshot:
        """Read what is stored under these ids, each collection at a time of its own."""
        keys = [key for movie_id in sorted(movie_ids) for key in documents.movie_keys(movie_id)]
        with translated_failures():
            movies, ledger = await asyncio.gather(
                self._find_movies(keys), self._find_entries(request_ids)
            )
        outcomes = _outcomes(ledger)
        for name, since in self.world.poison.items():
            if name in request_ids and (since == "at once" or name in outcomes):
                self.world.incident("poison")
                self.world.after(0, self._client.kill)
        return Snapshot(documents.movies_by_id(movies), outcomes)

    async def newest_outcomes(self, request_ids: Collection[str]) -> dict[str, OutcomeEvent]:
        """What is recorded, once a majority has it."""
        found: list[Document] = []

        def look() -> int:
            ledger = self.mongod.replicas.primary.ledger
            found[:] = [ledger[name] for name in sorted(request_ids) if name in ledger]
            return self.mongod.replicas.length

        with translated_failures():
            await self.ask_majority(look)
        return _outcomes(found)

    def _find_movies(self, keys: Collection[object]) -> asyncio.Future[list[Document]]:
        def find() -> list[Document]:
            movies = self.mongod.replicas.majority().movies
            return [movies[key] for key in keys if key in movies]

        return self._ask(find)

    def _find_entries(self, request_ids: Collection[str]) -> asyncio.Future[list[Document]]:
        def find() -> list[Document]:
            replicas = self.mongod.replicas
            stored = replicas.primary if self.ledger_is_read_locally else replicas.majority()
            ledger = stored.ledger
            return [ledger[name] for name in sorted(request_ids) if name in ledger]

        return self._ask(find)

    async def commit(self, bookings: Sequence[Booking], outcomes: Sequence[OutcomeEvent]) -> None:
        """Write all of it or nothing; goes on to its end when its caller is cancelled."""
        task = asyncio.create_task(self._commit(bookings, outcomes))
        self._commits.add(task)
        task.add_done_callback(self._commits.discard)
        await asyncio.shield(task)

    async def abort_abandoned_transactions(self) -> None:
        """Abort the transactions that have been idle for long."""
        with translated_failures():
            await self._ask(lambda: self.mongod.abort_idle(ABANDONED_AFTER_SECONDS))

    async def _commit(self, bookings: Sequence[Booking], outcomes: Sequence[OutcomeEvent]) -> None:
        transaction = Transaction()
        with translated_failures():
            try:
                await self.write(transaction, bookings, outcomes)
            except (PyMongoError, Conflict):
                # If this is lost, the transaction stays open and blocks others.
                with suppress(PyMongoError):
                    await self._ask(lambda: self.mongod.abort(transaction))
                raise
            await self._commit_known(transaction)

    async def write(
        self,
        transaction: Transaction,
        bookings: Sequence[Booking],
        outcomes: Sequence[OutcomeEvent],
    ) -> None:
        """The statements of a transaction."""
        if bookings:
            updates = [documents.booking_update(booking) for booking in bookings]
            matched = await self._ask(lambda: self.mongod.update(transaction, updates))
            if matched != len(bookings):
                self.world.incidents["filter matched nothing"] += 1
                raise Conflict(f"{len(bookings) - matched} movies were changed meanwhile")
        if outcomes:
            entries = [documents.ledger_document(outcome) for outcome in outcomes]
            await self._ask(lambda: self.mongod.insert(transaction, entries))

    async def _commit_known(self, transaction: Transaction) -> None:
        for attempt in range(1, COMMIT_ATTEMPTS + 1):
            try:
                await self.ask_majority(lambda: self.mongod.commit(transaction))
            except PyMongoError as failure:
                if not isinstance(failure, AutoReconnect) and not failure.has_error_label(
                    UNKNOWN_RESULT
                ):
                    raise
                self.world.incident("commit result unknown")
                if attempt == COMMIT_ATTEMPTS:
                    raise StoreUnusable("the result of a commit is not known") from failure
            else:
                return

    def _ask(self, operation: Callable[[], T]) -> asyncio.Future[T]:
        """Send one command, which runs if it reaches the server."""
        return RoundTrip(self.world, self.mongod, self._client, operation).answer

    def ask_majority(self, operation: Callable[[], int]) -> asyncio.Future[int]:
        """Send one command that is answered once a majority has that much of the log."""
        return MajorityRoundTrip(self.world, self.mongod, self._client, operation).answer


def _outcomes(entries: Sequence[Document]) -> dict[str, OutcomeEvent]:
    return {entry["_id"]: documents.ledger_outcome(entry) for entry in entries}
