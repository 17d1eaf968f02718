"""Reads recorded outcomes from the ledger, for the commands that publish them again.

The ledger is indexed by request id only: any other selection reads all of it, once to count and
once more to return the outcomes, in about the order in which they were recorded.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from pydantic import ValidationError

from contracts import OutcomeEvent
from worker.store.documents import Document, ledger_outcome
from worker.store.driver_failures import translated_failures
from worker.store.scan import Scan, batches, open_scan
from worker.store.store import LEDGER

OUTCOMES_AT_ONCE: Final = 500


@dataclass(frozen=True, slots=True)
class Selection:
    """Selects the recorded outcomes that satisfy every given criterion."""

    request_ids: tuple[str, ...] = ()
    movie_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    """Decided at ``since`` or later, and before ``until``."""


class Ledger:
    """The ledger, as a majority of the replica set has it."""

    def __init__(self, scan: Scan) -> None:
        self._entries = scan.database[LEDGER]
        self._session = scan.session
        self.unreadable_count = 0
        """How many entries were read that are not in the form in which a worker writes them."""

    async def outcomes(self, request_ids: Collection[str]) -> dict[str, OutcomeEvent]:
        """The recorded outcomes of those requests that have one; raises StoreUnusable."""
        if not request_ids:
            return {}
        with translated_failures():
            found = self._entries.find({"_id": {"$in": list(request_ids)}}, session=self._session)
            return {o.request_id: o for o in self._read(await found.to_list(None))}

    async def count(self, selection: Selection) -> int:
        """How many outcomes are selected; raises StoreUnusable."""
        with translated_failures():
            return await self._entries.count_documents(_filter(selection), session=self._session)

    async def selected(self, selection: Selection) -> AsyncGenerator[list[OutcomeEvent]]:
        """The selected outcomes, OUTCOMES_AT_ONCE at a time; raises StoreUnusable."""
        cursor = self._entries.find(
            _filter(selection), session=self._session, batch_size=OUTCOMES_AT_ONCE
        )
        async with aclosing(batches(cursor, OUTCOMES_AT_ONCE)) as found:
            async for entries in found:
                yield self._read(entries)

    def _read(self, entries: Collection[Document]) -> list[OutcomeEvent]:
        outcomes = []
        for entry in entries:
            try:
                outcomes.append(ledger_outcome(entry))
            except (ValidationError, LookupError, AttributeError, TypeError):
                self.unreadable_count += 1  # An audit says what is wrong with it.
        return outcomes


@asynccontextmanager
async def open_ledger(uri: str, database: str) -> AsyncGenerator[Ledger]:
    """The ledger of a database; raises StoreUnusable."""
    async with open_scan(uri, database) as scan:
        yield Ledger(scan)


def _filter(selection: Selection) -> Document:
    decided_at: Document = {}
    if selection.since is not None:
        decided_at["$gte"] = selection.since
    if selection.until is not None:
        decided_at["$lt"] = selection.until
    fields: Document = {}
    if selection.request_ids:
        fields["_id"] = {"$in": list(selection.request_ids)}
    if selection.movie_id is not None:
        fields["movieId"] = selection.movie_id
    return {**fields, "decidedAt": decided_at} if decided_at else fields
