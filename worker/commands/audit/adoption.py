"""`movies adopt`: records which seats were booked before the worker came, once for each time slot.

What is booked and not in the ledger is a time slot's opening balance. It is recorded also where it
is 0, so that whatever goes wrong in a time slot later on cannot be adopted away: adopting again
records only time slots that are new since, and changes nothing that is recorded.
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
    """What becomes of the time slots."""

    new: list[OpeningBalance] = field(default_factory=list)
    """To be recorded, of the range at hand."""
    recorded_before_count: int = 0
    recorded_count: int = 0
    booked_slot_count: int = 0
    booked_seat_count: int = 0
    refused_count: int = 0
    refused: list[str] = field(default_factory=list)

    def take(self, movie: AuditedMovie, now: datetime) -> None:
        """Work out the opening balances of a movie."""
        if movie.fault is not None:
            self.refuse(f"movie {movie.name}: {movie.fault}")
            return
        for time_slot_id in sorted(movie.left_out):
            self.refuse(f"movie {movie.name}, time slot {time_slot_id}: see what an audit says")
        for slot in movie.slots.values():
            if slot.opening is not None:
                self.recorded_before_count += 1
            elif slot.unexplained < 0:
                self.refuse(
                    f"movie {movie.name}, time slot {slot.time_slot_id}: {slot.confirmed} people "
                    f"are confirmed, but bookedCount is {slot.booked_count}"
                )
            else:
                self.new.append(
                    OpeningBalance(
                        movie_id=movie.name,
                        time_slot_id=slot.time_slot_id,
                        booked_count=slot.unexplained,
                        movie_version=movie.version or 0,
                        recorded_at=now,
                    )
                )

    def refuse(self, reason: str) -> None:
        """Note why a time slot has no opening balance."""
        self.refused_count += 1
        if len(self.refused) < REFUSED_SHOWN_MAX:
            self.refused.append(printable(reason))

    def taken(self, recorded_count: int) -> None:
        """The new balances of a range are recorded, so many of them by this command."""
        self.recorded_count += recorded_count
        self.recorded_before_count += len(self.new) - recorded_count
        booked = [balance.booked_count for balance in self.new if balance.booked_count]
        self.booked_slot_count += len(booked)
        self.booked_seat_count += sum(booked)
        self.new.clear()


async def adopt_movies(settings: Settings, *, dry_run: bool = False) -> None:
    """The command: record the opening balances that are missing, and say how many there were.

    Raises NotAdopted for time slots that have none that can be recorded, after all the others
    are; BadInput for a database that holds nothing of ours; StoreUnusable.
    """
    adoption = Adoption()
    now = datetime.now(UTC)
    now = now.replace(microsecond=now.microsecond // 1000 * 1000)  # As MongoDB keeps it.
    # What else an audit would tell is no business of an adoption.
    reconciler = Reconciler(lambda _violation: None)
    async with open_audit_reader(settings.mongodb_uri, settings.mongodb_database) as reader:
        await require_data(reader, settings)

        async def adopt(movies: Sequence[AuditedMovie]) -> None:
            for movie in movies:
                adoption.take(movie, now)
            adoption.taken(len(adoption.new) if dry_run else await _record(reader, adoption.new))

        await track(reader, reconciler, adopt)
    print(_summary(adoption, dry_run=dry_run), flush=True)
    if adoption.refused_count:
        hidden = adoption.refused_count - len(adoption.refused)
        more = [f"and {hidden} more"] if hidden else []
        raise NotAdopted(
            "\n  ".join(["these have no opening balance:", *adoption.refused, *more])
            + "\nMend them first (`reservation-worker audit` shows the state), then adopt again"
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
