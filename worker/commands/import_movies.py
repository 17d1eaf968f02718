"""`movies import`: writes the movies of a file to the database.

An import adds movies and time slots, and changes the capacities of stored time slots. Nothing is
removed, what is booked stays booked, and every other stored field is left alone. The file is
checked as a whole before anything is written. Knows no driver.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, Literal

from rich.console import Console
from rich.progress import Progress
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_random

from worker.commands.movie_file import (
    PROBLEMS_SHOWN_MAX,
    ValidMovie,
    check_movies,
    movies_in,
    read_file,
)
from worker.commands.terminal import listed
from worker.errors import BadInput, Conflict, StoreUnusable
from worker.rules.snapshot import Malformed, Movie
from worker.settings import Settings
from worker.store.movie_changes import MovieChange
from worker.store.store import Store

BATCH_SIZE: Final = 250
"""Few round trips, none of them near the store's time limit even if each movie holds a poster."""
LOST_RACES_SECONDS: Final = 30
"""How long to retry a movie that others keep changing: a busy worker wins most races, but its
commits take longer than a read and a write here."""
LONGEST_WAIT_SECONDS: Final = 0.1
ADOPT: Final = "`reservation-worker movies adopt`, so that an audit knows of them"

Status = Literal["new", "changed", "unchanged"]
STATUSES: Final[tuple[Status, ...]] = ("new", "changed", "unchanged")


async def import_movies(settings: Settings, file: str) -> None:
    """The command: import a file of movies, and print how many were new, changed and unchanged.

    Raises BadInput for a file with a fault, before anything is imported, and for movies that may
    not be changed as it says, after all others are imported; StoreUnusable.
    """
    movies = check_movies(movies_in(read_file(file)))
    stderr = Console(stderr=True)
    with Progress(console=stderr, transient=True, disable=not stderr.is_terminal) as progress:
        bar = progress.add_task("importing", total=len(movies))
        importer = await _import(settings, movies, lambda count: progress.advance(bar, count))
    counts = Counter(importer.statuses.values())
    statuses = ", ".join(f"{counts[status]} {status}" for status in STATUSES)
    print(f"imported {counts.total()} movies: {statuses}", flush=True)
    if any(importer.has_added_bookings(movie) for movie in movies):
        print("some seats are booked already: adopt them with", ADOPT, file=sys.stderr)
    importer.require_all()


async def import_documents(
    settings: Settings, documents: Iterable[Mapping[str, object]]
) -> Counter[Status]:
    """Import movies from memory and count them by status; raises what the command raises."""
    values = ((f"number {number}", document) for number, document in enumerate(documents, 1))
    importer = await _import(settings, check_movies(values), lambda _count: None)
    importer.require_all()
    return Counter(importer.statuses.values())


async def _import(
    settings: Settings, movies: Sequence[ValidMovie], advance: Callable[[int], None]
) -> _Importer:
    store = await Store.open(settings.mongodb_uri, settings.mongodb_database)
    importer = _Importer(store)
    try:
        for start in range(0, len(movies), BATCH_SIZE):
            batch = movies[start : start + BATCH_SIZE]
            await importer.import_batch(batch)
            advance(len(batch))
    except StoreUnusable as failure:
        raise StoreUnusable(
            f"{failure}; not all movies were imported: import them again, nothing is done twice"
        ) from failure
    finally:
        await store.close()
    return importer


class _Importer:
    """Reads, compares and writes batches of movies, and records the status of each."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.statuses: dict[str, Status] = {}
        self.refused: dict[str, str] = {}

    async def import_batch(self, batch: Sequence[ValidMovie]) -> None:
        """Write a batch, and retry the movies for which another writer was faster."""
        pending = {movie.movie_id: movie for movie in batch}
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(Conflict),
            stop=stop_after_delay(LOST_RACES_SECONDS),
            wait=wait_random(0, LONGEST_WAIT_SECONDS),
            reraise=True,
        )
        try:
            await retrying(self._attempt, pending)
        except Conflict as conflict:
            for movie in pending.values():
                self._refuse(movie, f"{conflict}; import it again")

    async def _attempt(self, pending: dict[str, ValidMovie]) -> None:
        """Read, compare and write once; removes from ``pending`` what needs no other attempt.

        Raises Conflict if anything is left in it.
        """
        stored = (await self._store.read(pending, ())).movies
        new, changes = [], []
        for movie in pending.values():
            existing = stored.get(movie.movie_id)
            if existing is None:
                new.append(movie.document)
                self.statuses[movie.movie_id] = "new"
            elif change := self._change(movie, existing):
                changes.append(change)
        inserted = await self._store.movie_writer.insert(new)
        changed = await self._store.movie_writer.change(changes)
        for movie_id, reason in {**inserted.refused, **changed.refused}.items():
            self._refuse(pending[movie_id], reason)
        for movie_id in pending.keys() - inserted.lost - changed.lost:
            del pending[movie_id]
        if pending:
            raise Conflict(f"other writers kept changing it for {LOST_RACES_SECONDS} s")

    def _change(self, movie: ValidMovie, stored: Movie | Malformed) -> MovieChange | None:
        try:
            change = change_of(movie, stored)
        except BadInput as refusal:
            self._refuse(movie, str(refusal))
            return None
        # A movie that counted as lost may have been changed by the previous attempt after all.
        if change or self.statuses.get(movie.movie_id) != "changed":
            self.statuses[movie.movie_id] = "changed" if change else "unchanged"
        return change

    def has_added_bookings(self, movie: ValidMovie) -> bool:
        """Whether the movie was written, and the file gives booked seats for it."""
        is_written = self.statuses.get(movie.movie_id) in {"new", "changed"}
        return is_written and any(slot["bookedCount"] for slot in movie.time_slots.values())

    def require_all(self) -> None:
        """Raises BadInput that lists the refused movies, if there are any."""
        if self.refused:
            refused = list(self.refused.values())
            raise BadInput(listed("refused, and left as they are:", refused, PROBLEMS_SHOWN_MAX))

    def _refuse(self, movie: ValidMovie, reason: str) -> None:
        self.statuses.pop(movie.movie_id, None)
        self.refused[movie.movie_id] = f"{movie.where}, movie {movie.movie_id}: {reason}"


def change_of(given: ValidMovie, stored: Movie | Malformed) -> MovieChange | None:
    """What an import changes of a stored movie; None if nothing.

    Raises BadInput for a change that no import may make. A given ``bookedCount`` is used only for
    a new time slot.
    """
    if isinstance(stored, Malformed):
        raise BadInput(f"{stored.detail}; correct the stored movie first")
    if type(stored.key) is not type(given.document["_id"]):
        raise BadInput(f"its stored _id is of the type {type(stored.key).__name__}; use that type")
    capacities = {}
    for time_slot_id, slot in given.time_slots.items():
        capacity = slot["capacity"]
        existing = stored.time_slots.get(time_slot_id)
        if isinstance(existing, Malformed):
            raise BadInput(f"{existing.detail}; correct the stored movie first")
        if existing is None or capacity == existing.capacity:
            continue
        if capacity < existing.booked_count:
            raise BadInput(
                f"time slot {time_slot_id}: a capacity of {capacity} is below the "
                f"{existing.booked_count} seats that are booked; give it at least as many"
            )
        capacities[time_slot_id] = capacity
    new = {key: slot for key, slot in given.time_slots.items() if key not in stored.time_slots}
    return MovieChange(stored, capacities, new) if capacities or new else None
