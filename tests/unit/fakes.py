"""Stands in for MongoDB and for the passing of time where a test is about neither.

The fake store keeps the rules of the real one: a commit is whole or nothing, a movie that
changed since it was read and a request id that is taken are conflicts, an overbooked slot and a
poisonous request are refused.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Final

import pytest
import tenacity

from contracts import OutcomeEvent
from worker.errors import Conflict, Refused, WorkerError
from worker.rules.decision import Booking, Decision, Request
from worker.rules.snapshot import Movie, Snapshot, TimeSlot
from worker.service.recording import Recorder


@dataclass
class FakeStore:
    """Movies and a ledger in memory; ``failures`` are raised first, one for each commit."""

    movies: dict[str, Movie] = field(default_factory=dict)
    ledger: dict[str, OutcomeEvent] = field(default_factory=dict)
    failures: deque[WorkerError] = field(default_factory=deque)
    always: WorkerError | None = None
    poison: Collection[str] = ()
    tried: list[list[str]] = field(default_factory=list)
    abandoned_aborted: int = 0
    aborting_fails: WorkerError | None = None
    reading_fails: WorkerError | None = None
    too_recent: set[str] = field(default_factory=set)
    """Recorded, but not yet by a majority: only the newest state shows these."""
    between: Callable[[], Awaitable[None]] | None = None
    """Awaited between each reading and its commit: what other writers do meanwhile."""

    async def read(self, movie_ids: Collection[str], request_ids: Collection[str]) -> Snapshot:
        if self.reading_fails:
            raise self.reading_fails
        return Snapshot(
            movies={name: self.movies[name] for name in movie_ids if name in self.movies},
            ledger={
                name: self.ledger[name]
                for name in request_ids
                if name in self.ledger and name not in self.too_recent
            },
        )

    async def commit(self, bookings: Sequence[Booking], outcomes: Sequence[OutcomeEvent]) -> None:
        self.tried.append([outcome.request_id for outcome in outcomes])
        if self.between is not None:
            await self.between()
        if self.failures or self.always is not None:
            raise self.failures.popleft() if self.failures else self.always or Conflict()
        if any(self._changed(booking) for booking in bookings):
            raise Conflict("a movie was changed meanwhile")
        if any(outcome.request_id in self.ledger for outcome in outcomes):
            raise Conflict("a request id is taken")
        if any(outcome.request_id in self.poison for outcome in outcomes):
            raise Refused("a request is poisonous")
        after = {str(booking.movie.key): _booked(booking) for booking in bookings}
        self.movies |= after
        self.ledger |= {outcome.request_id: outcome for outcome in outcomes}

    async def newest_outcomes(self, request_ids: Collection[str]) -> Mapping[str, OutcomeEvent]:
        self.too_recent.clear()
        return {name: self.ledger[name] for name in request_ids if name in self.ledger}

    async def abort_abandoned_transactions(self) -> None:
        self.abandoned_aborted += 1
        if self.aborting_fails:
            raise self.aborting_fails

    def _changed(self, booking: Booking) -> bool:
        return self.movies.get(str(booking.movie.key)) != booking.movie


def _booked(booking: Booking) -> Movie:
    slots = dict(booking.movie.time_slots)
    for slot_id, people in booking.people.items():
        slot = slots[slot_id]
        assert isinstance(slot, TimeSlot)
        slots[slot_id] = replace(slot, booked_count=slot.booked_count + people)
        if slot.booked_count + people > slot.capacity:
            raise Refused("the validator holds bookedCount to the capacity")
    return replace(booking.movie, version=booking.movie.version + 1, time_slots=slots)


async def record(recorder: Recorder, requests: Sequence[Request]) -> list[Decision]:
    """Record the outcomes of a batch, attempt by attempt, as the pipeline does."""
    attempts = recorder.attempts(requests)
    async for attempt in attempts:
        with attempt:
            await attempt.commit(attempt.decide(await attempt.read()))
    return attempts.decisions


REAL_SLEEP: Final = asyncio.sleep


@dataclass
class VirtualTime:
    """Retries wait in this time, which passes only while somebody sleeps."""

    now_seconds: float = 0
    slept_seconds: list[float] = field(default_factory=list)

    @classmethod
    def instead_of_real(cls, monkeypatch: pytest.MonkeyPatch) -> VirtualTime:
        time = cls()
        monkeypatch.setattr(asyncio, "sleep", time.sleep)
        monkeypatch.setattr(tenacity, "time", SimpleNamespace(monotonic=time.monotonic))
        return time

    def monotonic(self) -> float:
        return self.now_seconds

    async def sleep(self, delay_seconds: float, result: object = None) -> object:
        self.now_seconds += delay_seconds
        if delay_seconds:
            self.slept_seconds.append(delay_seconds)
        return await REAL_SLEEP(0, result)
