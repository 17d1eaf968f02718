"""The contract implemented a second time: what a body asks for, and what its outcome must be.

Written from the contract alone. Must not share code with the worker: the comparison is worth
something only because the two were written independently.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from tests.simulation.evidence import Document

REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,64}")
MOVIE_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
MOMENT: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")

Verdict = tuple[str, int | None, int | None]
"""``confirmed`` or the reason, the version of the movie, and the seats left."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a body asks for. Bodies with the same id and ``content`` are the same request."""

    request_id: str
    content: tuple[str, ...]
    invalid_fields: frozenset[str]
    movie_id: Any
    time_slot_id: Any
    people: Any
    expires_at: datetime | None


def parsed(body: bytes) -> Request | None:
    """The request in a body; None if there is no valid request id in it."""
    try:
        value = json.loads(body)
    except ValueError:
        return None
    if not isinstance(value, dict):
        return None
    request_id = value.get("requestId")
    if not isinstance(request_id, str) or not REQUEST_ID.fullmatch(request_id):
        return None
    invalid_fields = frozenset(_invalid_fields(value))
    asked = [
        json.dumps(value[name]) if name in value else "missing"
        for name in ("movieId", "timeSlotId", "numberOfPeople")
    ]
    expires_at = value.get("expiresAt")
    return Request(
        request_id=request_id,
        content=("invalid" if invalid_fields else "valid", *asked),
        invalid_fields=invalid_fields,
        movie_id=value.get("movieId"),
        time_slot_id=value.get("timeSlotId"),
        people=value.get("numberOfPeople"),
        expires_at=None
        if invalid_fields or expires_at is None
        else datetime.fromisoformat(expires_at),
    )


def _invalid_fields(value: dict[str, Any]) -> Iterator[str]:
    movie_id = value.get("movieId")
    if not isinstance(movie_id, str) or not MOVIE_ID.fullmatch(movie_id):
        yield "movieId"
    if not _is_integer(value.get("timeSlotId"), 0, 2**53 - 1):
        yield "timeSlotId"
    if not _is_integer(value.get("numberOfPeople"), 1, 1000):
        yield "numberOfPeople"
    expires_at = value.get("expiresAt")
    if "expiresAt" in value and not (
        expires_at is None or (isinstance(expires_at, str) and MOMENT.fullmatch(expires_at))
    ):
        yield "expiresAt"


def _is_integer(value: object, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def number(document: Document, name: str) -> int:
    """A stored number; 0 if it is missing."""
    return int(document.get(name) or 0)


def slots_of(movie: Document | None) -> dict[int, Document]:
    """The time slots of a movie by id."""
    return {slot["id"]: slot for slot in (movie or {}).get("timeSlots", ())}


def seats_left(slot: Document) -> int:
    """The seats left in a time slot."""
    return max(0, number(slot, "capacity") - number(slot, "bookedCount"))


def is_undecidable(request: Request, movie: Document | None) -> bool:
    """Whether the movie's numbers allow no decision, or a validator refuses any booking."""
    if movie is None or request.invalid_fields:
        return False
    return "frozen" in movie or is_malformed(movie, request.time_slot_id)


def is_malformed(movie: Document, time_slot_id: int) -> bool:
    """Whether what is stored of the movie or of this slot breaks the contract."""
    slots = [slot for slot in movie["timeSlots"] if slot["id"] == time_slot_id]
    held = [movie.get("version", 0)]
    held += [slot.get(name, 0) for slot in slots for name in ("capacity", "bookedCount")]
    return len(slots) > 1 or any(isinstance(value, str) or value != int(value) for value in held)


def verdict(
    request: Request,
    movie: Document | None,
    now: datetime,
    raised: int = 0,
    seats: int | None = None,
) -> Verdict:
    """The outcome of a request on a movie as it was stored.

    ``raised`` is 1 after a booking in the same commit, which raises the version; ``seats`` is what
    earlier bookings in the same commit have left of the slot.
    """
    if request.invalid_fields:
        return "invalid_request", None, None
    if movie is None:
        return "unknown_movie", None, None
    version = number(movie, "version") + raised
    slot = slots_of(movie).get(request.time_slot_id)
    if slot is None:
        return "unknown_time_slot", version, None
    left = seats_left(slot) if seats is None else seats
    if request.expires_at is not None and now > request.expires_at:
        return "expired", version, left
    if request.people > left:
        return "sold_out", version, left
    return "confirmed", version, left


def recorded_verdict(entry: Document) -> Verdict:
    """The verdict that a ledger entry records."""
    reason = entry.get("reason") or entry["outcome"]
    return reason, entry.get("movieVersion"), entry.get("seatsAvailable")


def is_recorded_as(request: Request, entry: Document) -> bool:
    """Whether the entry repeats the valid fields of the request, and names the invalid ones.

    An invalid value stands at the end of the description of its problem, and only there.
    """
    fields = {
        "movieId": request.movie_id,
        "timeSlotId": request.time_slot_id,
        "numberOfPeople": request.people,
    }
    asked = {name: value for name, value in fields.items() if name not in request.invalid_fields}
    problems = {error["field"]: error["problem"] for error in entry.get("errors") or ()}
    return (
        asked == {name: entry[name] for name in fields if name in entry}
        and request.invalid_fields == problems.keys()
        and all(
            problem.endswith(f" {json.dumps(fields[name])}") or problem.startswith("is required")
            for name, problem in problems.items()
            if name in fields
        )
    )


def event_of(entry: Document) -> dict[str, Any]:
    """The body of the event that announces a ledger entry."""
    decided_at = entry["decidedAt"].isoformat(timespec="milliseconds").replace("+00:00", "Z")
    others = {name: value for name, value in entry.items() if name != "_id"}
    return {"requestId": entry["_id"], **others, "decidedAt": decided_at}
