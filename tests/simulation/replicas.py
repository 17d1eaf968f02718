"""The members of a replica set: one log of writes, of which a majority has the first part.

What a majority has is never undone; an election may roll back what only the primary has. Knows
nothing of transactions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, NamedTuple

from pymongo.errors import OperationFailure, PyMongoError

from tests.simulation.evidence import MajorityHas, RolledBack, Written
from tests.simulation.world import World

Document = dict[str, Any]

INTERRUPTED_BY_ELECTION: Final = 11602
"""From MongoDB's src/mongo/base/error_codes.yml."""

STALE_SECONDS_MAX: Final = 9
"""A primary that has lost its majority answers until it steps down 10 s later."""
REPLICATION_SECONDS: Final = 0.01

WhenKnown = Callable[[PyMongoError | None], object]


class Stored(NamedTuple):
    """Both collections after a write. Documents and these dictionaries are never changed."""

    movies: Mapping[object, Document]
    ledger: Mapping[str, Document]


class Replicas:
    """The log of the primary, and how much of it a majority has."""

    def __init__(self, world: World, movies: Mapping[object, Document]) -> None:
        self._world = world
        self._log = [Stored({}, {})]
        self._majority = 0
        self._majorities: list[tuple[float, int]] = []
        self._waiting: list[tuple[int, WhenKnown]] = []
        self._waiting_for_primary: list[Callable[[], object]] = []
        self._term = 0
        self._seconds = REPLICATION_SECONDS
        self.is_up = True
        self._replicate(0, self.append("other", dict(movies), {}))

    @property
    def primary(self) -> Stored:
        """What the primary has stored."""
        return self._log[-1]

    @property
    def length(self) -> int:
        """How many writes the primary's log holds."""
        return len(self._log) - 1

    def majority(self) -> Stored:
        """What a majority has, or had not long ago: a read may return either."""
        count = self._majority
        if self._world.comes(self._world.fault_rates.stale_read):
            oldest = self._world.now_seconds - STALE_SECONDS_MAX
            recent = [count for at, count in self._majorities if at >= oldest]
            if recent and (count := self._world.chance.choice(recent)) < self._majority:
                self._world.incident("stale read")
        return self._log[count]

    def append(
        self,
        writer: Literal["worker", "other"],
        movies: Mapping[object, Document | None],
        ledger: Mapping[str, Document],
    ) -> int:
        """Write all of this atomically; returns the new length of the log."""
        before = self.primary
        merged = {**before.movies, **movies}
        present = {key: movie for key, movie in merged.items() if movie is not None}
        self._log.append(Stored(present, {**before.ledger, **ledger}))
        length, term = len(self._log) - 1, self._term
        self._world.record(Written(self._world.now_seconds, writer, movies, ledger))
        delay = self._seconds * self._world.chance.random()
        self._world.after(delay, self._replicate, term, length)
        return length

    def _replicate(self, term: int, length: int) -> None:
        """Replicate the log up to this length to a majority, unless its term is over."""
        if term != self._term or length <= self._majority:
            return
        self._majority = length
        self._majorities.append((self._world.now_seconds, length))
        self._world.record(MajorityHas(self._world.now_seconds, length))
        reached = [callback for needed, callback in self._waiting if needed <= length]
        self._waiting = [entry for entry in self._waiting if entry[0] > length]
        for callback in reached:
            callback(None)

    def when_majority_has(self, length: int, callback: WhenKnown) -> None:
        """Call back once a majority has that much of the log, or with an error at an election."""
        if length <= self._majority:
            callback(None)
        else:
            self._waiting.append((length, callback))

    def slow_down(self, seconds: float) -> None:
        """Slow down replication for so long."""
        self._seconds = seconds
        self._world.after(seconds, self._catch_up)

    def _catch_up(self) -> None:
        self._seconds = REPLICATION_SECONDS

    def when_up(self, callback: Callable[[], object]) -> None:
        """Call back once there is a primary again."""
        self._waiting_for_primary.append(callback)

    def step_down(self) -> int:
        """Lose the primary; returns how much of its log the next one has."""
        self.is_up = False
        self._term += 1
        last = len(self._log) - 1
        kept = self._world.chance.randint(self._majority, last)
        if kept < last:
            self._world.incident("writes rolled back")
            del self._log[kept + 1 :]
            self._world.record(RolledBack(self._world.now_seconds, kept))
        waiting, self._waiting = self._waiting, []
        for _, callback in waiting:
            callback(
                OperationFailure(
                    "operation was interrupted",
                    INTERRUPTED_BY_ELECTION,
                    {"errorLabels": ["UnknownTransactionCommitResult"]},
                )
            )
        return kept

    def become_primary(self) -> None:
        """Elect a member, and replicate what it has to a majority."""
        self.is_up = True
        self._replicate(self._term, len(self._log) - 1)
        waiting, self._waiting_for_primary = self._waiting_for_primary, []
        for callback in waiting:
            self._world.after(self._world.latency_seconds(), callback)
