"""`movies adopt`: records the seats booked before the worker was introduced, once for each slot.

The seats that are booked but not in the ledger are a time slot's opening balance. It is recorded
even if it is 0, so that a later error in that slot cannot be adopted away: adopting again records
only time slots that were added since, and changes nothing that is recorded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from worker.commands.audit.movies import AuditedMovie
from worker.commands.audit.progress import require_data, track
from worker.commands.audit.reconciliation import Reconciler
from worker.commands.terminal import printable
from worker.errors import NotAdopted
from worker.settings import Settings
from worker.store.audit import OPENING_BALANCES, AuditReader, OpeningBalance, open_audit_reader

RECORDED_AT_ONCE: Final = 1000
REFUSED_SHOWN_MAX: Final = 20


@dataclass(slots=True)
class Adoption:
    """The opening balances to be recorded, and what the summary counts."""

    unrecorded: list[OpeningBalance] = field(default_factory=list)
    """Of the current range."""
    recorded_before_count: int = 0
    recorded_count: int = 0
    booked_slot_count: int = 0
    booked_seat_count: int = 0
    refused_count: int = 0
    refused: list[str] = field(default_factory=list)

    def add_movie(self, movie: AuditedMovie, now: datetime) -> None:
        """Work out the opening balances of a movie."""
        if movie.fault is not None:
            self.refuse(f"movie {movie.name}: {movie.fault}")
            return
        for time_slot_id in sorted(movie.unreadable_slots):
            self.refuse(f"movie {movie.name}, time slot {time_slot_id}: see what an audit says")
        for slot in movie.slots.values():
            if slot.opening_balance is not None:
                self.recorded_before_count += 1
            elif slot.unexplained < 0:
                self.refuse(
                    f"movie {movie.name}, time slot {slot.time_slot_id}: {slot.confirmed} people "
                    f"are confirmed, but bookedCount is {slot.booked_count}"
                )
            else:
                self.unrecorded.append(
                    OpeningBalance(
                        movie_id=movie.name,
                        time_slot_id=slot.time_slot_id,
                        booked_count=slot.unexplained,
                        movie_version=movie.version or 0,
                        recorded_at=now,
                    )
                )

    def refuse(self, reason: str) -> None:
        """Note why a movie or time slot gets no opening balance."""
        self.refused_count += 1
        if len(self.refused) < REFUSED_SHOWN_MAX:
            self.refused.append(printable(reason))

    def count_recorded(self, recorded_count: int) -> None:
        """Count the balances of a range, of which this command recorded ``recorded_count``."""
        self.recorded_count += recorded_count
        self.recorded_before_count += len(self.unrecorded) - recorded_count
        booked = [balance.booked_count for balance in self.unrecorded if balance.booked_count]
        self.booked_slot_count += len(booked)
        self.booked_seat_count += sum(booked)
        self.unrecorded.clear()


async def adopt_movies(settings: Settings, *, dry_run: bool = False) -> None:
    """The command: record the opening balances that are missing, and print how many there were.

    Raises NotAdopted if a time slot has no balance that can be recorded, after recording all
    others; BadInput for a database without movies and ledger; StoreUnusable.
    """
    adoption = Adoption()
    now = datetime.now(UTC)
    now = now.replace(microsecond=now.microsecond // 1000 * 1000)  # The precision of MongoDB.
    # An adoption reports no violations; that is what an audit is for.
    reconciler = Reconciler(lambda _violation: None)
    async with open_audit_reader(settings.mongodb_uri, settings.mongodb_database) as reader:
        await require_data(reader, settings)

        async def adopt(movies: Sequence[AuditedMovie]) -> None:
            for movie in movies:
                adoption.add_movie(movie, now)
            balances = adoption.unrecorded
            adoption.count_recorded(len(balances) if dry_run else await _record(reader, balances))

        await track(reader, reconciler, adopt)
    print(_summary(adoption, dry_run=dry_run), flush=True)
    if adoption.refused_count:
        hidden = adoption.refused_count - len(adoption.refused)
        more = [f"and {hidden} more"] if hidden else []
        raise NotAdopted(
            "\n  ".join(["these have no opening balance:", *adoption.refused, *more])
            + "\nCorrect them first (`reservation-worker audit` shows the state), then adopt again"
        )


async def _record(reader: AuditReader, balances: Sequence[OpeningBalance]) -> int:
    chunks = (
        balances[start : start + RECORDED_AT_ONCE]
        for start in range(0, len(balances), RECORDED_AT_ONCE)
    )
    return sum([await reader.record(chunk) for chunk in chunks])


def _summary(adoption: Adoption, *, dry_run: bool) -> str:
    before = (
        f"; {adoption.recorded_before_count:,} were recorded before, and stay as they are"
        if adoption.recorded_before_count
        else ""
    )
    return (
        f"{'would record' if dry_run else 'recorded'} the opening balances of "
        f"{adoption.recorded_count:,} time slots in {OPENING_BALANCES}: "
        f"{adoption.booked_seat_count:,} seats booked in {adoption.booked_slot_count:,} of them, "
        f"none in the others{before}"
    )
