"""Other workers on the same movies: how to stay out of their way, and what follows from a failure.

A policy: it hears of commits and conflicts, and returns values. How a batch is partitioned, how
long others may go first, and the next step after a failed attempt are decided here; the recording
acts on them. No I/O and no clock.

Partitions: two processes that each commit a few hundred of a thousand movies meet in nearly every
commit, and half of all work is done twice. Movies are therefore partitioned by a checksum of their
id, which is the same in every process, and each process goes through the partitions in an order of
its own. Different partitions never conflict, and two processes are seldom in the same one. A
conflict doubles the number of partitions and a quiet time halves it, so a process that is alone
commits whole batches, and so does every process when all of them want one movie.
"""

from __future__ import annotations

import random
import zlib
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from worker.errors import Conflict, Refused, StoreUnusable, WorkerError
from worker.rules.decision import Request

PARTITIONS_MAX: Final = 4
REQUESTS_PER_PARTITION_MIN: Final = 16
"""With fewer, a commit of their own costs more than a conflict now and then."""
QUIET_COMMITS: Final = 64
"""Commits without a conflict after which there are half as many partitions."""
TURN_SECONDS: Final = 0.01
"""About one commit: time for others to read what has just been committed, and to win a race."""
TURNS_AFTER_CONFLICT: Final = 8
"""Commits without a conflict after which no other worker seems to want these movies any more."""
LOSING_STREAK: Final = 25
"""Conflicts in a row after which the winner may well be a transaction whose worker is dead."""

CONFLICT_ATTEMPTS: Final = 8
"""Attempts, with the first, after which a batch that conflicts over several movies is halved."""
ONE_MOVIE_SECONDS: Final = 30
"""For a batch that wants one movie. Halving it would only make more commits for the same movie, so
it is tried about a thousand times, and for far less time than the broker's consumer timeout.
Requests that lose all these races are not at fault: they are handed back, and not dead-lettered."""
REFUSED_ATTEMPTS: Final = 3
"""A refusal is nearly always final; another writer that changes the movie can lift it."""
OUTAGE_SECONDS: Final = 600
"""How long a batch is held while MongoDB is away, before its requests are handed back. Long, as
RabbitMQ before 4.3 counts that as a failed delivery; yet well below its consumer timeout of 30
minutes."""


class NextStep(Enum):
    """What to do with requests after an attempt to record their outcomes has failed."""

    TRY_AGAIN = auto()
    """Read, decide and commit the same requests again, after a pause."""
    POSTPONE = auto()
    """Try the other partitions first; by then the winner of this one has moved on."""
    HALVE = auto()
    """Try each half by itself, which ends at the one request that MongoDB refuses to store."""
    GIVE_UP = auto()
    """This one request cannot be stored."""
    HAND_BACK = auto()
    """Nothing can be recorded now, through no fault of these requests."""


@dataclass(slots=True)
class Streak:
    """Failures of the same kind in a row. Each kind has a budget of its own, while it lasts.

    Otherwise an outage would use up what lost races are allowed, and the first of them would hand
    everything back.
    """

    kind: type[WorkerError] | None = None
    _attempts_before: int = 0
    _seconds_before: float = 0
    _seconds_at_last: float = 0

    def count(self, failure: WorkerError, attempts: int, seconds: float) -> tuple[int, float]:
        """The attempts and the seconds of this streak, given those since the first attempt."""
        if type(failure) is not self.kind:
            self.kind = type(failure)
            self._attempts_before = attempts - 1
            self._seconds_before = self._seconds_at_last
        self._seconds_at_last = seconds
        return attempts - self._attempts_before, seconds - self._seconds_before


@dataclass(frozen=True, slots=True)
class Tried:
    """Requests that have been tried together; how often and how long they have failed alike."""

    requests: Sequence[Request]
    attempts: int = 1
    seconds: float = 0
    held_seconds: float = 0
    """Since the first attempt, whatever has failed since."""
    is_postponable: bool = False
    """Whether there are other partitions, which may be tried before these requests."""

    @property
    def wants_one_movie(self) -> bool:
        """Whether the requests are all for the same movie."""
        return len({request.movie_id for request in self.requests}) == 1


def next_step(failure: WorkerError, tried: Tried, *, is_stopping: bool = False) -> NextStep:
    """What follows from this failure of the last attempt.

    Raises the failure itself if it is none of those that a commit is known to have.
    """
    match failure:
        case StoreUnusable():
            is_over = is_stopping or tried.held_seconds >= OUTAGE_SECONDS
            return NextStep.HAND_BACK if is_over else NextStep.TRY_AGAIN
        case Conflict() | Refused() if tried.is_postponable:
            return NextStep.POSTPONE
        case Refused() if tried.attempts < REFUSED_ATTEMPTS:
            return NextStep.TRY_AGAIN
        case Refused():
            return NextStep.HALVE if len(tried.requests) > 1 else NextStep.GIVE_UP
        case Conflict() if tried.wants_one_movie:
            is_over = tried.seconds >= ONE_MOVIE_SECONDS or tried.held_seconds >= OUTAGE_SECONDS
            return NextStep.HAND_BACK if is_over else NextStep.TRY_AGAIN
        case Conflict():
            return NextStep.TRY_AGAIN if tried.attempts < CONFLICT_ATTEMPTS else NextStep.HALVE
    raise failure


class Contention:
    """What this process has learned about other workers, and what follows from it."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._partition_count = 1
        """Of a batch that is large enough."""
        self._contested: Collection[str] = ()
        """The movies of the last conflict."""
        self._commits_since_conflict = 0
        self._quiet_commits = 0
        """Commits without a conflict since the number of partitions changed."""
        self._conflicts_in_a_row = 0

    @property
    def is_losing_streak(self) -> bool:
        """Whether it is time to look for transactions that dead workers have left open."""
        return self._conflicts_in_a_row > 0 and self._conflicts_in_a_row % LOSING_STREAK == 0

    def note_commit(self) -> None:
        """A commit met no other worker."""
        self._conflicts_in_a_row = 0
        self._commits_since_conflict += 1
        self._quiet_commits += 1
        if self._quiet_commits >= QUIET_COMMITS:
            self._partition_count = max(self._partition_count // 2, 1)
            self._quiet_commits = 0

    def note_conflict(self, requests: Sequence[Request]) -> None:
        """Another worker was faster with a movie of these requests, or with one of them."""
        self._contested = {r.movie_id for r in requests if r.movie_id is not None}
        self._conflicts_in_a_row += 1
        self._commits_since_conflict = self._quiet_commits = 0
        self._partition_count = min(self._partition_count * 2, PARTITIONS_MAX)

    def turn_seconds(self, requests: Sequence[Request]) -> float:
        """How long to let others go first with the movies of these requests; 0 for not at all.

        The worker that has just committed is the first to know the new versions, so it would win
        race after race, and the requests that other workers hold would wait for its first pause.
        """
        if self._commits_since_conflict >= TURNS_AFTER_CONFLICT:
            return 0
        if not any(request.movie_id in self._contested for request in requests):
            return 0
        return self._chance.uniform(0, 2 * TURN_SECONDS)

    def partition(self, requests: Sequence[Request]) -> list[list[int]]:
        """The positions of the requests in each partition, in arrival order.

        The partitions themselves are in a random order.
        """
        count = self._partition_count
        while count > 1 and len(requests) < count * REQUESTS_PER_PARTITION_MIN:
            count //= 2
        if count == 1:
            return [list(range(len(requests)))]
        partitions: defaultdict[int, list[int]] = defaultdict(list)
        for position, request in enumerate(requests):
            # Requests with one id for two movies may be in two partitions. These are committed one
            # after the other, so the second request finds the first in the ledger.
            partitions[zlib.crc32((request.movie_id or "").encode()) % count].append(position)
        shuffled = list(partitions.values())
        self._chance.shuffle(shuffled)
        return shuffled
