"""Mutations: workers that break one rule each, by replacing a part around the real worker.

None of them is a switch inside the worker. The auditor must find each of them within the seeds of
an ordinary test run; otherwise the simulator is too weak.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import Final, Self
from weakref import WeakKeyDictionary

from pymongo import UpdateOne

import worker.service.recording
from contracts import OutcomeEvent
from tests.simulation.mongod import Transaction
from tests.simulation.process import PROCESS, Parts, Process, SimulatedSession
from tests.simulation.store import SimulatedStore
from worker.broker.messages import Message
from worker.errors import Conflict, WorkerError
from worker.rules.decision import Booking, Decided, Decision, Request, decide
from worker.rules.snapshot import Snapshot
from worker.store import documents


class AcksBeforePublishing(SimulatedSession):
    """Reports all messages as confirmed, and publishes them in the background."""

    async def publish(self, messages: Sequence[Message]) -> list[bool]:
        _in_background(super().publish(messages))
        return [True for _ in messages]


class SkipsSlowStart(SimulatedSession):
    """Starts with a full prefetch, so that poison fails together with its neighbours."""

    @classmethod
    async def open(
        cls, url: str, prefetch_count: int, *, slow_start: bool = False, may_be_blocked: bool = True
    ) -> Self:
        return await super().open(
            url, prefetch_count, slow_start=slow_start, may_be_blocked=may_be_blocked
        )


class PublishesBeforeCommitting(SimulatedStore):
    """Reports all as committed, and commits in the background."""

    async def commit(self, bookings: Sequence[Booking], outcomes: Sequence[OutcomeEvent]) -> None:
        _in_background(super().commit(bookings, outcomes))


class IgnoresTheLedger(SimulatedStore):
    """Treats each request as new."""

    async def read(self, movie_ids: Collection[str], request_ids: Collection[str]) -> Snapshot:
        return replace(await super().read(movie_ids, request_ids), ledger={})


class ReadsTheLedgerLocally(SimulatedStore):
    """Treats as recorded what only the primary has."""

    ledger_is_read_locally = True


class RecordsAfterBooking(SimulatedStore):
    """Books first, then records the outcomes in a separate transaction."""

    async def commit(self, bookings: Sequence[Booking], outcomes: Sequence[OutcomeEvent]) -> None:
        await super().commit(bookings, [])
        await super().commit([], outcomes)


class RecordsBeforeBooking(SimulatedStore):
    """Records the outcomes in a separate transaction, then books."""

    async def commit(self, bookings: Sequence[Booking], outcomes: Sequence[OutcomeEvent]) -> None:
        await super().commit([], outcomes)
        await super().commit(bookings, [])


class TreatsOkAsSuccess(SimulatedStore):
    """Ignores how many documents an update has matched."""

    async def write(
        self,
        transaction: Transaction,
        bookings: Sequence[Booking],
        outcomes: Sequence[OutcomeEvent],
    ) -> None:
        for booking in bookings:
            with suppress(Conflict):
                await super().write(transaction, [booking], [])
        await super().write(transaction, [], outcomes)


_FIRST_DECISIONS: Final[WeakKeyDictionary[Process, dict[str, Decision]]] = WeakKeyDictionary()


def _decides_once(requests: Sequence[Request], snapshot: Snapshot, now: datetime) -> Decided:
    """Announces what it decided first, whatever was committed then."""
    decided = decide(requests, snapshot, now)
    first = _FIRST_DECISIONS.setdefault(PROCESS.get(), {})
    pairs = zip(requests, decided.decisions, strict=True)
    return replace(decided, decisions=[first.setdefault(r.request_id, d) for r, d in pairs])


def _update_without(part: str) -> Callable[[Booking], UpdateOne]:
    """The booking's update, without one part of its filter."""

    def booking_update(booking: Booking) -> UpdateOne:
        update = documents_booking_update(booking)
        condition = {name: value for name, value in update._filter.items() if name != part}
        return UpdateOne(condition, update._doc, array_filters=list(update._array_filters or ()))

    return booking_update


documents_booking_update: Final = documents.booking_update


def _in_background(work: Coroutine[object, object, object]) -> None:
    async def until_it_fails() -> None:
        with suppress(WorkerError):
            await work

    task = asyncio.create_task(until_it_fails())
    _BACKGROUND.add(task)
    task.add_done_callback(_BACKGROUND.discard)


_BACKGROUND: Final[set[asyncio.Task[None]]] = set()

MUTATIONS: Final[Mapping[str, Parts]] = {
    "ack before publish": Parts(session=AcksBeforePublishing),
    "no slow start": Parts(session=SkipsSlowStart),
    "publish before commit": Parts(store=PublishesBeforeCommitting),
    "publish the decision instead of the ledger": Parts(
        replaced=((worker.service.recording, "decide", _decides_once),)
    ),
    "no version in the filter": Parts(
        replaced=((documents, "booking_update", _update_without("version")),)
    ),
    "no time slots in the filter": Parts(
        replaced=((documents, "booking_update", _update_without("$and")),)
    ),
    "no ledger check": Parts(store=IgnoresTheLedger),
    "ledger entries after the transaction": Parts(store=RecordsAfterBooking),
    "ledger entries before the transaction": Parts(store=RecordsBeforeBooking),
    "a local instead of a majority read of the ledger": Parts(store=ReadsTheLedgerLocally),
    "ok treated as success": Parts(store=TreatsOkAsSuccess),
}
