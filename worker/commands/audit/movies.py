"""A stored movie, as an audit reads it; any program may have written it.

Numbers may be doubles, as the shell stores them. What cannot be counted with, such as a version
that is a string or two time slots with one id, is a violation by itself, and takes part in no other
check.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from worker.commands.audit.entries import shown
from worker.commands.audit.violations import Invariant, Report, Violation


@dataclass(slots=True)
class AuditedSlot:
    """A time slot: its numbers as they were read, and the bookings that explain them."""

    time_slot_id: int
    capacity: int
    booked_count: int
    opening_balance: int | None = None
    """None if none is recorded."""
    confirmed: int = 0
    """The number of people of the confirmed entries up to the version that was read."""

    @property
    def unexplained(self) -> int:
        """The booked seats that no ledger entry accounts for."""
        return self.booked_count - self.confirmed


@dataclass(slots=True)
class AuditedMovie:
    """A movie as it was read at one moment."""

    name: str
    version: int | None
    fault: str | None = None
    """Why none of its time slots can be checked, if so."""
    slots: dict[int, AuditedSlot] = field(default_factory=dict)
    missing_slots: dict[int, int] = field(default_factory=dict)
    """By id, the confirmed people of time slots that the movie does not have."""
    unreadable_slots: set[int] = field(default_factory=set)
    """The ids of time slots that exist, but are malformed or share their id."""


def read_movie(document: Mapping[str, Any], name: str, report: Report) -> AuditedMovie:
    """The movie with those of its time slots that can be read; reports the others."""
    reporter = _MovieReporter(name, report)
    version = whole_number(document.get("version", 0))
    movie = AuditedMovie(name, version)
    if version is None:
        movie.fault = f"version is {shown(document['version'])}, not a whole number"
        reporter.add("I6", movie.fault)
    stored = document.get("timeSlots")
    slots = [slot for slot in stored if isinstance(slot, dict)] if isinstance(stored, list) else []
    # No request can name an element without a usable id, so it does not count as a time slot.
    ids = Counter(number for slot in slots if (number := whole_number(slot.get("id"))) is not None)
    for slot in slots:
        time_slot_id = whole_number(slot.get("id"))
        if time_slot_id is not None and ids[time_slot_id] == 1:
            if read := _read_slot(slot, time_slot_id, reporter):
                movie.slots[time_slot_id] = read
            else:
                movie.unreadable_slots.add(time_slot_id)
    for time_slot_id, count in ids.items():
        if count > 1:
            movie.unreadable_slots.add(time_slot_id)
            reporter.add("I1", f"{count} time slots have this id", time_slot_id)
    return movie


def whole_number(value: object) -> int | None:
    """A number as an int: the shell and other drivers store 3 as the double 3.0.

    The worker has a function like it for its own reads; an audit shares no code with the worker,
    so that a mistake there is not repeated here.
    """
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    return int(value) if isinstance(value, float) and value.is_integer() else None


@dataclass(frozen=True, slots=True)
class _MovieReporter:
    """Reports violations of one movie."""

    name: str
    report: Report

    def add(self, invariant: Invariant, problem: str, time_slot_id: int | None = None) -> None:
        self.report(Violation(invariant, problem, self.name, time_slot_id))


def _read_slot(
    slot: Mapping[str, Any], time_slot_id: int, reporter: _MovieReporter
) -> AuditedSlot | None:
    capacity = whole_number(slot.get("capacity"))
    booked_count = whole_number(slot.get("bookedCount", 0))
    for name, number in (("capacity", capacity), ("bookedCount", booked_count)):
        if number is None:
            problem = f"{name} is {shown(slot.get(name))}, not a whole number"
            reporter.add("I1", problem, time_slot_id)
    if capacity is None or booked_count is None:
        return None
    if booked_count < 0:
        reporter.add("I1", f"bookedCount is {booked_count}", time_slot_id)
    elif booked_count > capacity:
        reporter.add("I1", f"bookedCount is {booked_count} of {capacity} seats", time_slot_id)
    return AuditedSlot(time_slot_id, capacity, booked_count)
