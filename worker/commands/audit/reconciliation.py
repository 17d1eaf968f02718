"""Compares each movie with the ledger entries that account for its bookings, while workers run.

The movie's version makes this possible without stopping the workers. A commit raises the version
and writes its ledger entries in one transaction, so a movie that was read at version 7 holds
exactly the bookings of the entries up to version 7. Any later read sees all of these entries; newer
ones have a higher version and are left for the next audit. If an entry has a version that its movie
did not have when it was read, the movie is read again: by then it must have reached that version.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from typing import Any, Final

from worker.commands.audit.entries import faults_of, is_integer
from worker.commands.audit.movies import AuditedMovie, read_movie, whole_number
from worker.commands.audit.violations import Report, Violation
from worker.store.audit import NAME, AuditReader

RECHECKS_AT_ONCE: Final = 500
"""How many movies are read again with one query."""

Entry = Mapping[str, Any]


@dataclass(slots=True)
class Recheck:
    """What a movie must have reached when it is read again."""

    version: int
    request_id: str
    people: int = 0
    """Confirmed for a movie that did not exist when the movies were read."""


@dataclass(slots=True)
class _Commit:
    """The confirmations of one version of one movie."""

    version: int
    decided_at: datetime
    request_id: str
    seats: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    """By time slot: for each confirmation, the seats available after it, and its people."""


class Reconciler:
    """Takes the movies of a range, then its entries ordered by movie and version."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._movies: dict[str, AuditedMovie] = {}
        self._ambiguous: set[str] = set()
        self._rechecks: dict[str, Recheck] = {}
        self._commit: _Commit | None = None
        self._current_movie_id: object = None
        self.movie_count = 0
        self.time_slot_count = 0
        self.entry_count = 0

    def begin_range(self, movies: Sequence[Entry], balances: Sequence[Entry]) -> None:
        """Start a range: its movies, and the opening balances of their time slots."""
        self._movies, self._ambiguous = {}, set()
        for document in movies:
            name = document[NAME]
            # A movie that no request can name may be overbooked, but has no entries.
            movie = read_movie(document, str(name or document["_id"]), self._report)
            self.movie_count += 1
            self.time_slot_count += len(movie.slots)
            if name in self._movies:
                self._ambiguous.add(name)
            elif name is not None:
                self._movies[name] = movie
        for balance in balances:
            audited = self._movies.get(balance["movieId"])
            slot = audited.slots.get(balance["timeSlotId"]) if audited else None
            if slot is not None:
                slot.opening_balance = balance["bookedCount"]

    def add_entry(self, entry: Entry) -> None:
        """Check and count the next entry of the range."""
        self.entry_count += 1
        movie_id, version = entry.get("movieId"), entry.get("movieVersion")
        for fault in faults_of(entry):
            self._report(Violation("I3", fault, request_id=entry.get("_id")))
        if movie_id != self._current_movie_id or (self._commit and version != self._commit.version):
            self._check_commit()
            self._current_movie_id = movie_id
        if (
            not isinstance(movie_id, str)
            or not isinstance(version, int)
            or movie_id in self._ambiguous
        ):
            return
        movie = self._movies.get(movie_id)
        if movie is None or (movie.version is not None and version > movie.version):
            self._recheck_later(movie_id, entry, movie_exists=movie is not None)
        elif entry.get("outcome") == "confirmed":
            self._count_confirmation(movie, entry)

    def end_range(self) -> Sequence[AuditedMovie]:
        """The movies of the range with all their entries counted."""
        # Entries that still wait for a recheck would be missing from the sums.
        assert not self._rechecks, "a range ends when all of it is rechecked"  # noqa: S101
        for name in sorted(self._ambiguous):
            fault = "both a text and an ObjectId are movies of this name, so entries are ambiguous"
            self._movies[name].fault = fault
            self._report(Violation("I2", fault, name))
        return list(self._movies.values())

    def end_entries(self) -> None:
        """Finish the last commit; the range has no more entries."""
        self._check_commit()
        self._current_movie_id = None

    def movies_to_recheck(self) -> Sequence[str]:
        """The movies to be read again: those whose entries have all been added."""
        return [name for name in self._rechecks if name != self._current_movie_id]

    def recheck(self, names: Sequence[str], versions: Mapping[str, object]) -> None:
        """Check these movies against their current versions."""
        for name in names:
            recheck = self._rechecks.pop(name)
            if name not in versions:
                if recheck.people:
                    problem = f"the movie is gone, but {recheck.people} people are confirmed for it"
                    self._report(Violation("I2", problem, name))
                continue
            version = whole_number(versions[name])
            if version is not None and version < recheck.version:
                problem = f"version is {version}, but request {recheck.request_id} was decided at"
                self._report(Violation("I6", f"{problem} version {recheck.version}", name))

    def _recheck_later(self, movie_id: str, entry: Entry, *, movie_exists: bool) -> None:
        version = entry["movieVersion"]
        recheck = self._rechecks.setdefault(movie_id, Recheck(version, str(entry["_id"])))
        if version > recheck.version:
            recheck.version, recheck.request_id = version, str(entry["_id"])
        people = entry.get("numberOfPeople")
        if not movie_exists and entry.get("outcome") == "confirmed" and is_integer(people):
            recheck.people += people or 0

    def _count_confirmation(self, movie: AuditedMovie, entry: Entry) -> None:
        time_slot_id, people = entry.get("timeSlotId"), entry.get("numberOfPeople")
        seats, decided_at = entry.get("seatsAvailable"), entry.get("decidedAt")
        if not (isinstance(time_slot_id, int) and isinstance(people, int)):
            return  # Reported already as a fault of the entry.
        if slot := movie.slots.get(time_slot_id):
            slot.confirmed += people
        elif time_slot_id not in movie.unreadable_slots:
            movie.missing_slots[time_slot_id] = movie.missing_slots.get(time_slot_id, 0) + people
        if not (isinstance(seats, int) and isinstance(decided_at, datetime)):
            return
        if self._commit is None:
            self._commit = _Commit(entry["movieVersion"], decided_at, str(entry["_id"]))
        elif self._commit.decided_at != decided_at:
            others = f"request {self._commit.request_id} was confirmed at the same version"
            problem = f"{others}, {self._commit.version}, but at another time"
            self._report(Violation("I6", problem, movie.name, request_id=entry["_id"]))
        self._commit.seats.setdefault(time_slot_id, []).append((seats, people))

    def _check_commit(self) -> None:
        """Check that each confirmation of a commit left what the one before left, less its own."""
        commit, self._commit = self._commit, None
        for time_slot_id, taken in commit.seats.items() if commit else ():
            taken.sort(reverse=True)
            follows = all(left == after + people for (left, _), (after, people) in pairwise(taken))
            if commit and not follows:
                problem = f"the seats that the confirmations of version {commit.version} left"
                movie_id = str(self._current_movie_id)
                self._report(
                    Violation("I3", f"{problem} do not follow one another", movie_id, time_slot_id)
                )


async def reconcile(
    reader: AuditReader, reconciler: Reconciler, advance: Callable[[int], None]
) -> AsyncGenerator[Sequence[AuditedMovie]]:
    """The movies, a range at a time, with their entries counted; raises StoreUnusable.

    Calls ``advance`` with the number of entries that were added.
    """
    async for movie_range in reader.movie_ranges():
        reconciler.begin_range(movie_range.movies, await reader.opening_balances(movie_range))
        async for entries in reader.entries(movie_range):
            for entry in entries:
                reconciler.add_entry(entry)
            advance(len(entries))
            if len(names := reconciler.movies_to_recheck()) >= RECHECKS_AT_ONCE:
                reconciler.recheck(names, await reader.versions(names))
        reconciler.end_entries()
        if names := reconciler.movies_to_recheck():
            reconciler.recheck(names, await reader.versions(names))
        yield reconciler.end_range()
