"""How the outcomes of a batch get into the ledger, whatever gets in the way.

Owns the attempts: each reads, decides and commits a part of the batch, and what follows from a
failed one is the policy's to say (see ``contention``). A conflict means that another worker was
faster, so everything is read and decided again. Knows no driver and no broker.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from types import TracebackType
from typing import Final, Protocol, Self

from tenacity import AsyncRetrying, AttemptManager, RetryCallState, wait_random_exponential

from contracts import OutcomeEvent
from worker.errors import CommitError, Conflict, Refused, StoreUnusable, WorkerError
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
from worker.service.contention import Contention, NextStep, Streak, Tried, next_step

log: Final = logging.getLogger(__name__)

FIRST_WAIT_SECONDS: Final = 0.003
LONGEST_WAIT_SECONDS: Final = 0.02
"""About two commits. A loser that waits longer meets the same winner again: with waits of up to
half a second, two workers on one movie kept each other's requests waiting for more than a
second."""
OUTAGE_WAIT_SECONDS: Final = 2


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
    """Records batch after batch, and remembers which other workers it met on the way."""

    def __init__(
        self,
        store: LedgerStore,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        is_stopping: Callable[[], bool] = lambda: False,
        chance: random.Random | None = None,
    ) -> None:
        self.store = store
        self.contention = Contention(chance or random.Random())  # noqa: S311  # Not for secrets.
        self.is_stopping = is_stopping
        self.tally = Tally()
        self._clock = clock

    def attempts(self, requests: Sequence[Request]) -> Attempts:
        """The attempts that record the outcomes of these requests."""
        return Attempts(self, requests)

    async def earlier_answer(self, request: Request) -> OutcomeEvent | Reused | None:
        """What answers the request already, if anything does; raises StoreUnusable."""
        earlier = await self.store.newest_outcomes([request.request_id])
        return repeated(request, earlier[request.request_id]) if earlier else None

    async def note_conflict(self, requests: Sequence[Request]) -> None:
        """Learn from a lost race, and look for dead workers' transactions after many in a row."""
        self.tally.conflicts += 1
        self.contention.note_conflict(requests)
        if self.contention.is_losing_streak:
            # If this fails, the next attempt meets the same failure, and reports it.
            with suppress(CommitError, StoreUnusable):
                await self.store.abort_abandoned_transactions()

    def now(self) -> datetime:
        """To the millisecond, as MongoDB keeps it, so that what is announced is what was stored."""
        now = self._clock()
        return now.replace(microsecond=now.microsecond // 1000 * 1000)


@dataclass(slots=True)
class _Part:
    """Requests of a batch that are recorded together, and their positions in it."""

    requests: Sequence[Request]
    positions: Sequence[int]
    is_postponable: bool
    next_step: NextStep | None = None
    """What follows from the last attempt, once it has failed."""

    def halves(self) -> tuple[_Part, _Part]:
        """Its first and its second half."""
        middle = len(self.requests) // 2
        return (
            replace(self, requests=self.requests[:middle], positions=self.positions[:middle]),
            replace(self, requests=self.requests[middle:], positions=self.positions[middle:]),
        )


class Attempts:
    """The attempts that record one batch: iterate over them until each request has a decision.

    There is one attempt for each part of the batch, and another one after each failure. Raises
    StoreUnusable while iterating when MongoDB stays away for too long, or when requests for one
    movie lose every race. Parts that were committed by then stay in the ledger; their requests are
    delivered again, and answered from it.
    """

    def __init__(self, recorder: Recorder, requests: Sequence[Request]) -> None:
        self._recorder = recorder
        self._requests = requests
        self._decisions: dict[int, Decision] = {}

    @property
    def decisions(self) -> list[Decision]:
        """A decision for each request, in order; every outcome among them is in the ledger."""
        return [self._decisions[position] for position in range(len(self._requests))]

    async def __aiter__(self) -> AsyncIterator[Attempt]:
        # Parts are recorded one after the other, never at once: they may want the same movies.
        waiting = deque(self._parts())
        if len(waiting) == 1 and (pause := self._recorder.contention.turn_seconds(self._requests)):
            await asyncio.sleep(pause)
        while waiting:
            part = waiting.popleft()
            try:
                async for attempt in self._retrying(part):
                    yield Attempt(self._recorder, self, part, attempt)
            except (CommitError, StoreUnusable) as failure:
                await self._act_on(failure, part, waiting)

    def keep(self, part: _Part, decisions: Sequence[Decision]) -> None:
        """Keep the decisions of a part; those that are outcomes have been committed."""
        self._decisions.update(zip(part.positions, decisions, strict=True))

    def _parts(self) -> list[_Part]:
        if not self._requests:
            return []
        partitions = self._recorder.contention.partition(self._requests)
        return [
            _Part([self._requests[p] for p in positions], positions, len(partitions) > 1)
            for positions in partitions
        ]

    async def _act_on(self, failure: WorkerError, part: _Part, waiting: deque[_Part]) -> None:
        """Postpone, halve, give up or hand back a part that is not tried again as it is."""
        size = len(part.requests)
        match part.next_step:
            case NextStep.POSTPONE:
                _log(logging.INFO, failure, f"{size} requests are tried again after the others")
                waiting.append(replace(part, is_postponable=False))
            case NextStep.HALVE:
                level = logging.WARNING if isinstance(failure, Refused) else logging.INFO
                _log(level, failure, f"{size} requests keep failing together and are halved")
                waiting.extendleft(reversed(part.halves()))
            case NextStep.GIVE_UP:
                # It may have an outcome from before its movie became what MongoDB refuses now.
                answer = await self._recorder.earlier_answer(part.requests[0])
                refusal = Undecidable(f"MongoDB refuses to store the outcome: {failure}")
                self.keep(part, [answer or refusal])
            case NextStep.HAND_BACK if isinstance(failure, Conflict):
                raise StoreUnusable(f"lost every race for one movie: {failure}") from failure
            case _:
                raise failure

    def _retrying(self, part: _Part) -> AsyncRetrying:
        race = wait_random_exponential(FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS)
        outage = wait_random_exponential(FIRST_WAIT_SECONDS, OUTAGE_WAIT_SECONDS)
        return AsyncRetrying(
            # As soon as this says no, the last failure is raised as it was.
            retry=partial(self._choose_next_step, part, Streak()),
            wait=lambda state: (outage if _is_outage(state) else race)(state),
            before_sleep=self._before_retry,
        )

    def _choose_next_step(self, part: _Part, streak: Streak, state: RetryCallState) -> bool:
        """Choose what follows from the last attempt; whether that is to try the same again."""
        failure = _failure(state)
        if not isinstance(failure, WorkerError):
            return False
        seconds = state.seconds_since_start or 0
        alike = streak.count(failure, state.attempt_number, seconds)
        tried = Tried(part.requests, *alike, seconds, part.is_postponable)
        part.next_step = next_step(failure, tried, is_stopping=self._recorder.is_stopping())
        return part.next_step is NextStep.TRY_AGAIN

    def _before_retry(self, state: RetryCallState) -> None:
        failure = _failure(state)
        level = logging.WARNING if _is_outage(state) else logging.INFO
        pause = f"trying again in {state.upcoming_sleep:.3f} s"
        _log(level, failure, f"attempt {state.attempt_number} failed, {pause}")


class Attempt:
    """One attempt at a part of a batch: read, decide and commit, in this order.

    A context manager: a failure inside it ends the attempt, and the attempts go on from there.
    """

    def __init__(
        self, recorder: Recorder, attempts: Attempts, part: _Part, attempt: AttemptManager
    ) -> None:
        self._recorder = recorder
        self._attempts = attempts
        self._part = part
        self._attempt = attempt

    def __enter__(self) -> Self:
        self._attempt.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        failure: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        return self._attempt.__exit__(kind, failure, traceback)

    async def read(self) -> Snapshot:
        """Read the movies and the ledger entries of the requests; raises StoreUnusable."""
        requests = self._part.requests
        movie_ids = {request.movie_id for request in requests if request.movie_id is not None}
        return await self._recorder.store.read(movie_ids, {r.request_id for r in requests})

    def decide(self, snapshot: Snapshot) -> Decided:
        """Decide the requests by what was read."""
        return decide(self._part.requests, snapshot, self._recorder.now())

    async def commit(self, decided: Decided) -> None:
        """Commit the outcomes, all or none; raises Conflict, Refused or StoreUnusable."""
        try:
            await self._require_no_outcomes(decided.decisions)
            if decided.outcomes:
                await self._recorder.store.commit(decided.bookings, decided.outcomes)
                self._recorder.tally.commits += 1
                self._recorder.contention.note_commit()
        except Conflict:
            await self._recorder.note_conflict(self._part.requests)
            raise
        self._attempts.keep(self._part, decided.decisions)

    async def _require_no_outcomes(self, decisions: Sequence[Decision]) -> None:
        """Raises Conflict if a request that cannot be decided has an outcome after all.

        It may have been recorded after the snapshot. Every other decision finds that out at its
        commit, but an undecidable request is not committed: it would become a dead letter.
        """
        undecided = [
            request.request_id
            for request, decision in zip(self._part.requests, decisions, strict=True)
            if isinstance(decision, Undecidable)
        ]
        if undecided and await self._recorder.store.newest_outcomes(undecided):
            raise Conflict("an outcome was recorded a moment ago")


def _failure(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None


def _is_outage(state: RetryCallState) -> bool:
    return isinstance(_failure(state), StoreUnusable)


def _log(level: int, failure: BaseException | None, what: str) -> None:
    log.log(level, "%s: %s: %s", what, type(failure).__name__, failure)
