"""The shapes of the stored documents, and how they become values and updates. No I/O.

Any program may have written a movie, so nothing about its numbers is taken for granted; only
workers write the ledger.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC
from typing import Any, Final

from bson import ObjectId
from pymongo import UpdateOne

from contracts import FieldProblem, OutcomeEvent
from worker.rules.decision import Booking
from worker.rules.snapshot import Malformed, Movie, TimeSlot

Document = dict[str, Any]  # As the driver takes and returns it.

MOVIE_FIELDS: Final = {
    "version": 1,
    "timeSlots.id": 1,
    "timeSlots.capacity": 1,
    "timeSlots.bookedCount": 1,
}
"""All that a decision needs; a movie's other fields, which may be large, are not read."""

_OBJECT_ID: Final = re.compile(r"[0-9a-f]{24}")

_BOOKED: Final = {"$ifNull": ["$$slot.bookedCount", 0]}
MOVIE_VALIDATOR: Final[Document] = {
    "$expr": {
        "$allElementsTrue": {
            "$map": {
                "input": {"$cond": [{"$isArray": "$timeSlots"}, "$timeSlots", []]},
                "as": "slot",
                "in": {
                    "$and": [
                        {"$gte": [_BOOKED, 0]},
                        {"$lte": [_BOOKED, {"$ifNull": ["$$slot.capacity", 0]}]},
                    ]
                },
            }
        }
    }
}
"""0 <= bookedCount <= capacity in every time slot, whoever writes it."""


def movie_keys(movie_id: str) -> list[object]:
    """The ``_id`` values that this movie id can stand for, the string last.

    An ObjectId has one name on the wire, its 24 digits in lower case, so that routing keys,
    ledger and audit agree on what a movie is called.
    """
    return [ObjectId(movie_id), movie_id] if _OBJECT_ID.fullmatch(movie_id) else [movie_id]


def movies_by_id(documents: Iterable[Document]) -> dict[str, Movie | Malformed]:
    """Movies by their id on the wire; a string ``_id`` takes precedence over an ObjectId."""
    found: dict[str, Movie | Malformed] = {}
    for document in sorted(documents, key=lambda document: isinstance(document["_id"], str)):
        found[str(document["_id"])] = _movie(document)
    return found


def _movie(document: Document) -> Movie | Malformed:
    version = _whole_number(document.get("version", 0))
    if version is None:
        return Malformed(
            f"movie {document['_id']}: version is {document['version']!r}, not a whole number"
        )
    stored = document.get("timeSlots")
    time_slots = StoredTimeSlots(document["_id"], stored if isinstance(stored, list) else [])
    return Movie(key=document["_id"], version=version, time_slots=time_slots)


class StoredTimeSlots(Mapping[int, TimeSlot | Malformed]):
    """The time slots of a movie, each parsed when it is first used.

    A batch needs one or two of what may be hundreds, and parsing them all would be most of its
    work. An element without a usable id does not count as a time slot: no request can name it.
    """

    def __init__(self, movie_key: object, stored: Sequence[object]) -> None:
        self._movie_key = movie_key
        self._stored = stored
        self._read: dict[int, TimeSlot | Malformed] = {}

    def __getitem__(self, time_slot_id: int) -> TimeSlot | Malformed:
        if time_slot_id not in self._read:
            self._read[time_slot_id] = self._find(time_slot_id)
        return self._read[time_slot_id]

    def __iter__(self) -> Iterator[int]:
        slots = (slot for slot in self._stored if isinstance(slot, dict))
        ids = (_whole_number(slot.get("id")) for slot in slots)
        return iter(dict.fromkeys(number for number in ids if number is not None))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _find(self, time_slot_id: int) -> TimeSlot | Malformed:
        found = [
            slot
            for slot in self._stored
            # The shell stores 3 as 3.0, which equals 3. True equals 1, but is not an id.
            if isinstance(slot, dict)
            and slot.get("id") == time_slot_id
            and not isinstance(slot["id"], bool)
        ]
        if not found:
            raise KeyError(time_slot_id)
        if len(found) > 1:
            return Malformed(
                f"movie {self._movie_key}: more than one time slot has the id {time_slot_id}"
            )
        return _time_slot(self._movie_key, found[0])


def _time_slot(movie_key: object, slot: Document) -> TimeSlot | Malformed:
    capacity = _whole_number(slot.get("capacity"))
    booked_count = _whole_number(slot.get("bookedCount", 0))
    if capacity is None or booked_count is None:
        name = "capacity" if capacity is None else "bookedCount"
        return Malformed(
            f"movie {movie_key}, time slot {slot['id']}: "
            f"{name} is {slot.get(name)!r}, not a whole number"
        )
    return TimeSlot(capacity=capacity, booked_count=booked_count)


def _whole_number(value: object) -> int | None:
    """A number as an int: the shell and other drivers store 3 as the double 3.0.

    An audit has a function of its own for this, as it shares no code with the worker.
    """
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    return int(value) if isinstance(value, float) and value.is_integer() else None


def as_read(number: int) -> object:
    """The filter for a number that is still as it was read; a missing one was read as 0."""
    return number or {"$in": [0, None]}


def unchanged_time_slot(movie: Movie, time_slot_id: int) -> Document:
    """The filter for a movie whose time slot still has the numbers that were read."""
    slot = movie.time_slots[time_slot_id]
    # Callers have refused any other slot; this tells the type checker so.
    assert isinstance(slot, TimeSlot), "only a slot that could be read is updated"  # noqa: S101
    numbers = {
        "id": time_slot_id,
        "capacity": slot.capacity,
        "bookedCount": as_read(slot.booked_count),
    }
    return {"timeSlots": {"$elemMatch": numbers}}


def booking_update(booking: Booking) -> UpdateOne:
    """The versioned update, which matches the movie only as the decision saw it.

    The version guards against other workers. The numbers of each touched slot guard against
    writers that change a movie without raising its version.
    """
    guards: list[Document] = []
    increments = {"version": 1}
    array_filters: list[Mapping[str, object]] = []
    for index, (time_slot_id, number_of_people) in enumerate(sorted(booking.people.items())):
        guards.append(unchanged_time_slot(booking.movie, time_slot_id))
        increments[f"timeSlots.$[slot{index}].bookedCount"] = number_of_people
        array_filters.append({f"slot{index}.id": time_slot_id})
    return UpdateOne(
        {"_id": booking.movie.key, "version": as_read(booking.movie.version), "$and": guards},
        {"$inc": increments},
        array_filters=array_filters,
    )


def ledger_document(outcome: OutcomeEvent) -> Document:
    """The ledger entry of an outcome; fields without a value are left out."""
    fields: Document = {
        "_id": outcome.request_id,
        "movieId": outcome.movie_id,
        "timeSlotId": outcome.time_slot_id,
        "numberOfPeople": outcome.number_of_people,
        "outcome": outcome.outcome,
        "reason": outcome.reason,
        "errors": outcome.errors and [problem.model_dump() for problem in outcome.errors],
        "movieVersion": outcome.movie_version,
        "seatsAvailable": outcome.seats_available,
        "decidedAt": outcome.decided_at,
    }
    return {name: value for name, value in fields.items() if value is not None}


def ledger_outcome(document: Document) -> OutcomeEvent:
    """The outcome that a ledger entry records."""
    errors = document.get("errors")
    return OutcomeEvent(
        request_id=document["_id"],
        movie_id=document.get("movieId"),
        time_slot_id=document.get("timeSlotId"),
        number_of_people=document.get("numberOfPeople"),
        outcome=document["outcome"],
        reason=document.get("reason"),
        errors=None if errors is None else tuple(FieldProblem(**error) for error in errors),
        movie_version=document.get("movieVersion"),
        seats_available=document.get("seatsAvailable"),
        decided_at=document["decidedAt"].replace(tzinfo=UTC),
    )
