"""Read, decide, commit: how a batch of requests gets its outcomes into the ledger.

Owns the retrying. A conflict means that somebody else was faster: everything is read and decided
again. A batch that keeps failing is halved, which makes progress under contention and finds the
one request that MongoDB will not store. Knows no driver and no broker.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Protocol

from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception_type,
    stop_after_attempt,
    stop_after_delay,
    wait_random_exponential,
)

from contracts import OutcomeEvent
from worker.decision import (
    Booking,
    Decided,
    Decision,
    Malformed,
    Movie,
    Request,
    Undecidable,
    decide,
)
from worker.errors import CommitError, Conflict, Refused, StoreUnusable

log: Final = logging.getLogger(__name__)

FIRST_WAIT_SECONDS: Final = 0.01
"""About the time of one commit: long enough for the faster writer to be done."""
LONGEST_WAIT_SECONDS: Final = 0.5
BATCH_ATTEMPTS: Final = 4
"""Of one batch, before it is halved."""
LONE_REQUEST_SECONDS: Final = 30
"""For a request that is tried alone. With eight workers racing for one movie, a request that may
try some 60 times loses them all about once in 3,000; far below the broker's consumer timeout."""
REFUSED_ATTEMPTS: Final = 3
"""A refusal is nearly always final; what lifts it is another writer changing the movie."""
OUTAGE_WAIT_SECONDS: Final = 2
OUTAGE_SECONDS: Final = 30
"""How long a batch is held while MongoDB is away, before its requests are handed back."""


class Reading(Protocol):
    """What is stored under the ids of a batch."""

    @property
    def movies(self) -> Mapping[str, Movie | Malformed]: ...
    @property
    def ledger(self) -> Mapping[str, OutcomeEvent]: ...


class LedgerStore(Protocol):
    """What recording needs of the store."""

    async def read(self, movie_ids: Collection[str], request_ids: Collection[str]) -> Reading: ...
    async def commit(
        self, bookings: Sequence[Booking], outcomes: Sequence[OutcomeEvent]
    ) -> None: ...


@dataclass(slots=True)
class Tally:
    """Counts since the start, for the log."""

    commits: int = 0
    conflicts: int = 0


class Recorder:
    """Gives each request of a batch its decision, recorded wherever it is an outcome."""

    def __init__(
        self,
        store: LedgerStore,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        should_give_up: Callable[[], bool] = lambda: False,
    ) -> None:
        self._store = store
        self._clock = clock
        self._should_give_up = should_give_up
        self.tally = Tally()

    async def record(self, requests: Sequence[Request]) -> list[Decision]:
        """A decision for each request, in order; every outcome among them is in the ledger.

        Raises StoreUnusable when MongoDB stays away for OUTAGE_SECONDS; nothing is known then.
        """
        if not requests:
            return []
        try:
            return await self._retrying(alone=len(requests) == 1)(self._attempt, requests)
        except CommitError as failure:
            if len(requests) == 1:
                return [Undecidable(f"not committed after many attempts: {failure}")]
            middle = len(requests) // 2
            log.warning(
                "a batch of %d requests keeps failing and is halved: %s", len(requests), failure
            )
        # One after the other, not both at once: they may want the same movies.
        return [*await self.record(requests[:middle]), *await self.record(requests[middle:])]

    async def _attempt(self, requests: Sequence[Request]) -> list[Decision]:
        """Read, decide, commit, once."""
        movie_ids = {request.movie_id for request in requests if request.movie_id is not None}
        reading = await self._store.read(movie_ids, {request.request_id for request in requests})
        decided: Decided = decide(requests, reading.movies, reading.ledger, self._now())
        if decided.outcomes:
            await self._store.commit(decided.bookings, decided.outcomes)
            self.tally.commits += 1
        return list(decided.decisions)

    def _now(self) -> datetime:
        """To the millisecond, as MongoDB keeps it, so that what is announced is what was stored."""
        now = self._clock()
        return now.replace(microsecond=now.microsecond // 1000 * 1000)

    def _retrying(self, *, alone: bool) -> AsyncRetrying:
        race = wait_random_exponential(FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS)
        outage = wait_random_exponential(FIRST_WAIT_SECONDS, OUTAGE_WAIT_SECONDS)
        lost_races = (
            stop_after_delay(LONE_REQUEST_SECONDS) if alone else stop_after_attempt(BATCH_ATTEMPTS)
        )

        def stop(state: RetryCallState) -> bool:
            match _failure(state):
                case StoreUnusable():
                    return self._should_give_up() or stop_after_delay(OUTAGE_SECONDS)(state)
                case Refused():
                    return stop_after_attempt(REFUSED_ATTEMPTS)(state)
                case _:
                    return lost_races(state)

        def wait(state: RetryCallState) -> float:
            return (outage if isinstance(_failure(state), StoreUnusable) else race)(state)

        return AsyncRetrying(
            retry=retry_if_exception_type((Conflict, Refused, StoreUnusable)),
            stop=stop,
            wait=wait,
            before_sleep=self._before_retry,
            reraise=True,
        )

    def _before_retry(self, state: RetryCallState) -> None:
        failure = _failure(state)
        self.tally.conflicts += isinstance(failure, Conflict)
        level = logging.WARNING if isinstance(failure, StoreUnusable) else logging.INFO
        log.log(
            level,
            "attempt %d failed, trying again in %.3f s: %s: %s",
            state.attempt_number,
            state.upcoming_sleep,
            type(failure).__name__,
            failure,
        )


def _failure(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None
