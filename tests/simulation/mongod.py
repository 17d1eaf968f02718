"""The primary in memory: transactions and single writes, on what the replica set has stored.

Follows MongoDB's rules that the worker relies on: a transaction sees a snapshot, the first writer
wins, ids are unique, the validator refuses, and a transaction that is never ended stays open and
blocks others. Raises the driver's own exceptions; knows nothing of networks or workers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from pymongo import UpdateOne
from pymongo.errors import BulkWriteError, OperationFailure

from tests.simulation.matching import Document, finds, updated
from tests.simulation.replicas import Replicas, Stored
from tests.simulation.world import World

# Codes from MongoDB's src/mongo/base/error_codes.yml.
WRITE_CONFLICT: Final = 112
DUPLICATE_KEY: Final = 11000
VALIDATION_FAILURE: Final = 121
NO_SUCH_TRANSACTION: Final = 251

TRANSACTION_SECONDS_MAX: Final = 60
"""The default of ``transactionLifetimeLimitSeconds``."""


@dataclass(eq=False, slots=True)
class Transaction:
    """What a client has written and not committed; nobody else may see or write it."""

    snapshot: Stored | None = None
    movies: dict[object, Document] = field(default_factory=dict)
    ledger: dict[str, Document] = field(default_factory=dict)
    state: Literal["new", "open", "committed", "aborted"] = "new"
    log_length: int = 0
    """The length of the log including its commit."""
    active_seconds: float = 0.0


class Mongod:
    """The primary, while there is one."""

    def __init__(self, world: World, movies: Mapping[object, Document]) -> None:
        self._world = world
        self.replicas = Replicas(world, movies)
        self._open: dict[Transaction, None] = {}
        """In the order they began."""
        self._committed: list[Transaction] = []

    def ping(self) -> None:
        """Answer, and so show that there is a primary."""

    def update(self, transaction: Transaction, updates: Sequence[UpdateOne]) -> int:
        """Returns how many of the updates matched a document; raises OperationFailure."""
        snapshot = self._snapshot_of(transaction)
        matched = 0
        for update in updates:
            key = update._filter["_id"]
            movie = transaction.movies.get(key) or snapshot.movies.get(key)
            if movie is None or not finds(movie, update):
                continue
            if snapshot.movies.get(key) is not self.replicas.primary.movies.get(key):
                self._conflict(transaction)
            if any(key in other.movies for other in self._open if other is not transaction):
                self._conflict(transaction)
            transaction.movies[key] = self._changed(transaction, movie, update)
            matched += 1
        return matched

    def _changed(self, transaction: Transaction, movie: Document, update: UpdateOne) -> Document:
        try:
            changed = updated(movie, update)
            self._validate(movie, changed)
        except OperationFailure as failure:
            self.abort(transaction)
            error = {"code": failure.code, "errmsg": str(failure)}
            raise BulkWriteError({"writeErrors": [error]}) from failure
        return changed

    def _validate(self, before: Document, after: Document) -> None:
        """At the level "moderate", a document that was invalid before may stay so."""
        if "frozen" in after or (_is_valid(before) and not _is_valid(after)):
            self._world.incident("validator refused")
            raise OperationFailure("Document failed validation", VALIDATION_FAILURE)

    def insert(self, transaction: Transaction, entries: Sequence[Document]) -> None:
        """Insert ledger entries; raises OperationFailure."""
        snapshot = self._snapshot_of(transaction)
        for entry in entries:
            name = entry["_id"]
            if name in snapshot.ledger or name in transaction.ledger:
                self.abort(transaction)
                self._world.incident("duplicate key")
                raise BulkWriteError({"writeErrors": [{"code": DUPLICATE_KEY, "errmsg": name}]})
            if name in self.replicas.primary.ledger:
                self._conflict(transaction)
            if any(name in other.ledger for other in self._open if other is not transaction):
                self._conflict(transaction)
            transaction.ledger[name] = entry

    def commit(self, transaction: Transaction) -> int:
        """Commit, once however often it is asked; returns the length of the log including it."""
        if transaction.state != "committed":
            self._snapshot_of(transaction)
            self._open.pop(transaction, None)
            transaction.state = "committed"
            transaction.log_length = self.replicas.append(
                "worker", transaction.movies, transaction.ledger
            )
            self._committed.append(transaction)
        return transaction.log_length

    def abort(self, transaction: Transaction) -> None:
        """Abort it; harmless for a transaction that has ended."""
        if transaction.state != "committed":
            transaction.state = "aborted"
            self._open.pop(transaction, None)

    def abort_idle(self, idle_seconds: float) -> None:
        """Abort the transactions that were idle for so long."""
        before = self._world.now_seconds - idle_seconds
        for transaction in [t for t in self._open if t.active_seconds < before]:
            self._world.incident("abandoned transaction ended")
            self.abort(transaction)

    def write(self, key: object, change: Callable[[Document | None], Document | None]) -> bool:
        """A write by another program; False if it has to wait for a transaction."""
        if any(key in transaction.movies for transaction in self._open):
            return False
        before = self.replicas.primary.movies.get(key)
        after = change(before)
        if after is not before and (after is None or _is_valid(after)):
            self.replicas.append("other", {key: after}, {})
        return True

    def step_down(self) -> None:
        """Lose the primary, and with it every open transaction."""
        for transaction in list(self._open):
            self.abort(transaction)
        kept = self.replicas.step_down()
        for transaction in self._committed:
            if transaction.log_length > kept:
                transaction.state = "aborted"
        self._committed = [t for t in self._committed if t.state == "committed"]

    def _snapshot_of(self, transaction: Transaction) -> Stored:
        """The snapshot of a transaction, which begins with its first statement."""
        if transaction.state == "new":
            transaction.state = "open"
            transaction.snapshot = self.replicas.primary
            self._open[transaction] = None
            self._world.after(TRANSACTION_SECONDS_MAX, self._expire, transaction)
        if transaction.state != "open" or transaction.snapshot is None:
            raise _transient("Transaction has been aborted", NO_SUCH_TRANSACTION)
        transaction.active_seconds = self._world.now_seconds
        return transaction.snapshot

    def _expire(self, transaction: Transaction) -> None:
        if transaction.state == "open":
            self._world.incident("transaction expired")
            self.abort(transaction)

    def _conflict(self, transaction: Transaction) -> None:
        """The first writer wins, whether it has committed since the snapshot or is still open."""
        self.abort(transaction)
        self._world.incident("write conflict")
        raise _transient("WriteConflict", WRITE_CONFLICT)


def _is_valid(movie: Document) -> bool:
    """0 <= bookedCount <= capacity in every slot; for MongoDB a string exceeds any number."""
    for slot in movie.get("timeSlots", ()):
        booked, capacity = slot.get("bookedCount") or 0, slot.get("capacity") or 0
        if not isinstance(capacity, str) and not 0 <= booked <= capacity:
            return False
    return True


def _transient(message: str, code: int) -> OperationFailure:
    return OperationFailure(message, code, {"errorLabels": ["TransientTransactionError"]})
