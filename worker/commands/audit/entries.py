"""What must be true of a ledger entry by itself, according to the contract.

A worker wrote the entry once, from an outcome. So the outcome determines which fields the entry
has, and each field satisfies the rule that the contract gives for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final

Entry = Mapping[str, Any]

REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,64}")
MOVIE_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
WHOLE_NUMBER_MAX: Final = 2**53 - 1
PEOPLE_MAX: Final = 1000
SHOWN_CHARACTERS_MAX: Final = 80

_ASKED: Final = frozenset({"movieId", "timeSlotId", "numberOfPeople"})
_SEATS: Final = _ASKED | {"movieVersion", "seatsAvailable"}
FIELDS: Final[Mapping[str, frozenset[str]]] = {
    "confirmed": _SEATS,
    "sold_out": _SEATS,
    "expired": _SEATS,
    "unknown_time_slot": _ASKED | {"movieVersion"},
    "unknown_movie": _ASKED,
    "invalid_request": frozenset({"errors"}),
}
"""The fields of an entry besides its id, outcome, reason and time. An invalid request also has
those of the requested fields that were valid."""
_ALL_FIELDS: Final = _SEATS | {"errors"}

_BOUNDS: Final = {
    "timeSlotId": (0, WHOLE_NUMBER_MAX),
    "numberOfPeople": (1, PEOPLE_MAX),
    # A movie starts at version 0, and each confirmation creates a new version.
    "movieVersion": (0, 2**63 - 1),
    "seatsAvailable": (0, 2**63 - 1),
}


def faults_of(entry: Entry) -> Iterator[str]:
    """Everything that is wrong with an entry, in words; nothing for a valid one."""
    if not _matches(REQUEST_ID, entry.get("_id")):
        yield f"its _id is {shown(entry.get('_id'))}, which is no requestId"
    if not isinstance(entry.get("decidedAt"), datetime):
        yield f"decidedAt is {shown(entry.get('decidedAt'))}, not a time"
    result = _result_of(entry)
    if result is None:
        outcome, reason = shown(entry.get("outcome")), shown(entry.get("reason"))
        yield f"outcome {outcome} and reason {reason} do not go together"
    else:
        yield from _wrong_fields(entry, result)
    yield from _wrong_values(entry)


def is_integer(value: object) -> bool:
    """Whether it is an integer; a boolean is not."""
    return isinstance(value, int) and not isinstance(value, bool)


def shown(value: object) -> str:
    """A value as messages show it, cut if it is long."""
    if value is None:
        return "missing"
    text = repr(value)
    return text if len(text) <= SHOWN_CHARACTERS_MAX else f"{text[:SHOWN_CHARACTERS_MAX]}…"


def _result_of(entry: Entry) -> str | None:
    """The reason of a rejection, or ``confirmed``; None if the entry is neither."""
    outcome, reason = entry.get("outcome"), entry.get("reason")
    if outcome == "confirmed":
        return None if "reason" in entry else "confirmed"
    is_reason = isinstance(reason, str) and reason in FIELDS and reason != "confirmed"
    return str(reason) if outcome == "rejected" and is_reason else None


def _wrong_fields(entry: Entry, result: str) -> Iterator[str]:
    needed = FIELDS[result]
    present = _ALL_FIELDS & entry.keys()
    for name in sorted(needed - present):
        yield f"it is {result}, but has no {name}"
    allowed = needed | _ASKED
    for name in sorted(present - allowed):
        yield f"it is {result}, but has {name}"
    if result == "confirmed" and entry.get("movieVersion") == 0:
        yield "movieVersion is 0, which no confirmation can have created"
    if result == "sold_out" and _has_room(entry):
        yield f"it is sold_out, but {entry['seatsAvailable']} seats were available"
    if "errors" in needed and not isinstance(entry.get("errors", []), list):
        yield f"errors is {shown(entry['errors'])}, not a list"


def _has_room(entry: Entry) -> bool:
    seats, people = entry.get("seatsAvailable"), entry.get("numberOfPeople")
    if not isinstance(seats, int) or not isinstance(people, int):
        return False  # Reported as a fault of that field.
    return seats >= people


def _wrong_values(entry: Entry) -> Iterator[str]:
    if "movieId" in entry and not _matches(MOVIE_ID, entry["movieId"]):
        yield f"movieId is {shown(entry['movieId'])}, which no request may have"
    for name, (least, most) in _BOUNDS.items():
        if name in entry:
            value = entry[name]
            if not is_integer(value) or not least <= value <= most:
                yield f"{name} is {shown(value)}, not an integer from {least} to {most}"


def _matches(pattern: re.Pattern[str], value: object) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None
