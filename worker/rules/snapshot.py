"""What was stored when a batch was read, as values: movies, their time slots, and the ledger.

Anybody may have written a movie, so a movie or a time slot may be malformed. That is a value, too,
because it concerns only the requests for that movie or time slot.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from contracts import OutcomeEvent


@dataclass(frozen=True, slots=True)
class TimeSlot:
    """The numbers of one time slot, in seats and people."""

    capacity: int
    booked_count: int

    @property
    def seats_available(self) -> int:
        """Never negative, even if another writer has overbooked the slot."""
        return max(0, self.capacity - self.booked_count)


@dataclass(frozen=True, slots=True)
class Malformed:
    """A movie or time slot that is stored in a form which allows no decision, and why."""

    detail: str


@dataclass(frozen=True, slots=True)
class Movie:
    """One movie; ``key`` is its ``_id`` and means something only to the store."""

    key: object
    version: int
    time_slots: Mapping[int, TimeSlot | Malformed]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What is stored under the ids of a batch: movies by movie id, outcomes by request id.

    What is missing here does not exist. A snapshot may be out of date: the commit finds that out.
    """

    movies: Mapping[str, Movie | Malformed]
    ledger: Mapping[str, OutcomeEvent]
