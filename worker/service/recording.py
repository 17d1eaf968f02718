"""Read, decide, commit: how a batch of requests gets its outcomes into the ledger.

Owns the retrying. A conflict means that somebody else was faster: everything is read and decided
again. A batch that keeps failing is halved, which makes progress under contention and finds the
one request that MongoDB will not store. Knows no driver and no broker.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
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
from worker.errors import Conflict, Refused, StoreUnusable
from worker.rules.decision import (
    Booking,
    Decided,
    Decision,
    Request,
    Reused,
    Undecidable,
    decide,
    repeated,
)
from worker.rules.snapshot import Snapshot
from worker.service.lanes import Lanes

log: Final = logging.getLogger(__name__)

FIRST_WAIT_SECONDS: Final = 0.003
LONGEST_WAIT_SECONDS: Final = 0.02
"""Two commits, about: a loser that waits for longer meets the same winner again, and with waits of
up to 0.5 s two workers on one movie kept each other's requests waiting for a second and more."""
TURN_SECONDS: Final = 0.01
"""About one commit: for others to read what has just been committed, and to be faster for once."""
TURNS_AFTER_CONFLICT: Final = 8
"""Commits without a conflict, after which nobody else seems to want these movies any more."""
BATCH_ATTEMPTS: Final = 8
"""Of one batch that wants several movies, before it is halved."""
LOSING_STREAK: Final = 25
"""Lost in a row: the winner may well be a transaction whose worker is dead."""
ONE_MOVIE_SECONDS: Final = 30
"""For a batch that wants one movie, which halving would only make into more commits for the same
movie: a thousand attempts, and far below the broker's consumer timeout. Requests that lose all
these races are not at fault, so they are handed back, not dead-lettered."""
REFUSED_ATTEMPTS: Final = 3
"""A refusal is nearly always final; what lifts it is another writer changing the movie."""
OUTAGE_WAIT_SECONDS: Final = 2
OUTAGE_SECONDS: Final = 600
"""How long a batch is held while MongoDB is away, before its requests are handed back. Long, for
RabbitMQ before 4.3 counts that as a failed delivery; yet well below its consumer timeout of 30
minutes."""


class LedgerStore(Protocol):
    """What recording needs of the store."""

    async def read(self, movie_ids: Collection[str], request_ids: Collection[str]) -> Snapshot: ...
    async def commit(
        self, bookings: Sequence[Booking], outcomes: Sequence[OutcomeEvent]
    ) -> None: ...
    async def newest_outcomes(self, request_ids: Collection[str]) -> Mapping[str, OutcomeEvent]: ...
    async def abort_abandoned_transactions(self) -> None: ...


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
        chance: random.Random | None = None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._should_give_up = should_give_up
        self._chance = chance or random.Random()  # noqa: S311  # For turns, not for secrets.
        self._lanes = Lanes(self._chance)
        self._contested: Collection[str] = ()
        """The movies of the last lost race."""
        self._commits_since_conflict = 0
        self._lost_in_a_row = 0
        self.tally = Tally()

    async def record(self, requests: Sequence[Request]) -> list[Decision]:
        """A decision for each request, in order; every outcome among them is in the ledger.

        Raises StoreUnusable when MongoDB stays away for OUTAGE_SECONDS, or when requests for one
        movie lose every race for ONE_MOVIE_SECONDS; nothing is known then.
        """
        lanes = self._lanes.part(requests)
        if len(lanes) == 1:
            await self._let_others_have_a_turn(requests)
            return await self._persist(requests)
        decisions: dict[int, Decision] = {}
        lost: list[list[int]] = []
        for number, lane in enumerate(lanes):
            try:
                decided = await self._attempt([requests[position] for position in lane])
            except (Conflict, Refused) as failure:
                # By the time the other lanes are done, whoever was faster in this one has left.
                self._note(failure, "a lane of %d is tried again after the others", len(lane))
                lost.append(lane)
            except StoreUnusable:
                # The other lanes would find the same; what follows knows how to wait.
                lost += lanes[number:]
                break
            else:
                decisions.update(zip(lane, decided, strict=True))
        for lane in lost:
            decided = await self._persist([requests[position] for position in lane])
            decisions.update(zip(lane, decided, strict=True))
        return [decisions[position] for position in range(len(requests))]

    async def recorded(self, request: Request) -> OutcomeEvent | Reused | None:
        """What answers the request already, if anything does; raises StoreUnusable."""
        earlier = await self._store.newest_outcomes([request.request_id])
        return repeated(request, earlier[request.request_id]) if earlier else None

    async def _let_others_have_a_turn(self, requests: Sequence[Request]) -> None:
        """Wait a little where others wanted the same movies a moment ago.

        Whoever has just committed is the first to know the new versions, so it would win race
        after race, and the requests that the others hold would wait for its first pause.
        """
        if self._commits_since_conflict < TURNS_AFTER_CONFLICT and any(
            request.movie_id in self._contested for request in requests
        ):
            await asyncio.sleep(self._chance.uniform(0, 2 * TURN_SECONDS))

    async def _persist(self, requests: Sequence[Request]) -> list[Decision]:
        """Try a batch until it is committed; halve it when it keeps failing."""
        if not requests:
            return []
        one_movie = len({request.movie_id for request in requests}) == 1
        try:
            return await self._retrying(one_movie=one_movie)(self._attempt, requests)
        except Refused as failure:
            if len(requests) == 1:
                if await self.recorded(requests[0]):
                    return await self._attempt(requests)
                return [Undecidable(f"MongoDB refuses to store the outcome: {failure}")]
            log.warning("a batch of %d is refused and halved: %s", len(requests), failure)
        except Conflict as failure:
            if one_movie:
                raise StoreUnusable(f"lost every race for one movie: {failure}") from failure
            log.info("a batch of %d keeps losing races and is halved", len(requests))
        middle = len(requests) // 2
        # One after the other, not both at once: they may want the same movies.
        return [*await self._persist(requests[:middle]), *await self._persist(requests[middle:])]

    async def _attempt(self, requests: Sequence[Request]) -> list[Decision]:
        """Read, decide, commit, once."""
        movie_ids = {request.movie_id for request in requests if request.movie_id is not None}
        snapshot = await self._store.read(movie_ids, {request.request_id for request in requests})
        decided: Decided = decide(requests, snapshot, self._now())
        await self._require_no_outcomes(requests, decided.decisions)
        if decided.outcomes:
            try:
                await self._store.commit(decided.bookings, decided.outcomes)
            except Conflict:
                self._contested, self._commits_since_conflict = movie_ids, 0
                raise
            self.tally.commits += 1
            self._commits_since_conflict += 1
            self._lost_in_a_row = 0
            self._lanes.note_commit()
        return list(decided.decisions)

    async def _require_no_outcomes(
        self, requests: Sequence[Request], decisions: Sequence[Decision]
    ) -> None:
        """Raises Conflict if a request that cannot be decided has an outcome after all.

        The reading may be from before that was recorded. Every other decision finds that out
        when it is committed, but one that is none would become a dead letter.
        """
        undecided = [
            request.request_id
            for request, decision in zip(requests, decisions, strict=True)
            if isinstance(decision, Undecidable)
        ]
        if undecided and await self._store.newest_outcomes(undecided):
            raise Conflict("an outcome was recorded a moment ago")

    def _now(self) -> datetime:
        """To the millisecond, as MongoDB keeps it, so that what is announced is what was stored."""
        now = self._clock()
        return now.replace(microsecond=now.microsecond // 1000 * 1000)

    def _retrying(self, *, one_movie: bool) -> AsyncRetrying:
        race = wait_random_exponential(FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS)
        outage = wait_random_exponential(FIRST_WAIT_SECONDS, OUTAGE_WAIT_SECONDS)
        lost_races = (
            stop_after_delay(ONE_MOVIE_SECONDS) if one_movie else stop_after_attempt(BATCH_ATTEMPTS)
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

    async def _before_retry(self, state: RetryCallState) -> None:
        failure = _failure(state)
        self._note(
            failure,
            "attempt %d failed, trying again in %.3f s",
            state.attempt_number,
            state.upcoming_sleep,
        )
        if isinstance(failure, Conflict) and self._lost_in_a_row % LOSING_STREAK == 0:
            # A failure of this is no news: the next attempt meets it too, and reports it.
            with suppress(StoreUnusable):
                await self._store.abort_abandoned_transactions()

    def _note(self, failure: BaseException | None, what: str, *details: float) -> None:
        """Log what is done about a failure, and draw the conclusion for the batches to come."""
        level = logging.WARNING if isinstance(failure, StoreUnusable) else logging.INFO
        log.log(level, f"{what}: %s: %s", *details, type(failure).__name__, failure)  # noqa: G004
        if isinstance(failure, Conflict):
            self.tally.conflicts += 1
            self._lost_in_a_row += 1
            self._lanes.note_conflict()


def _failure(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None
