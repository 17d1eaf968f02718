"""The answer to any body and any batch, implemented a second time.

Shares no code with what it checks, and uses other tools where it can: the standard library's json
instead of pydantic's parser, dates parsed by hand, and a plain dictionary of seats. It knows the
rules of the contract and of RFC 8259, RFC 3339 and CloudEvents, and two limits of the parser that
no real request reaches.
"""

from __future__ import annotations

import base64
import calendar
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn

BODY_BYTES_MAX: Final = 65_536
DEPTH_MAX: Final = 201
DIGITS_MAX: Final = 4300
"""The limits of the parser: depth of nesting, and digits of an integer."""

STRUCTURED: Final = "application/cloudevents+json"
FIELDS: Final = ("movieId", "timeSlotId", "numberOfPeople", "expiresAt")

_STRING: Final = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_TIME: Final = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]+))?"
    r"(?:[Zz]|([+-])([0-9]{2}):([0-9]{2}))"
)

UNREADABLE: Final = "unreadable_request"
UNDELIVERABLE: Final = "undeliverable"


class Unreadable(ValueError):
    """There is no request with a valid id in this body."""


@dataclass(frozen=True)
class Expected:
    """A request: its valid fields, and the values of its invalid ones."""

    request_id: str
    fields: Mapping[str, Any]
    invalid: Mapping[str, str]


def read(body: bytes, content_type: str | None) -> Expected | None:
    """The request in this body; None if it is unreadable."""
    if len(body) > BODY_BYTES_MAX:
        return None
    try:
        request = _request_in(body, content_type)
    except (ValueError, RecursionError):
        return None
    request_id = request.get("requestId")
    if not _is_name(request_id, r"[A-Za-z0-9._:-]{1,64}"):
        return None
    invalid = {
        name: json.dumps(request[name]) if name in request else "missing"
        for name in FIELDS
        if not _is_valid(name, request)
    }
    valid = {name: request.get(name) for name in FIELDS if name not in invalid}
    return Expected(str(request_id), valid, invalid)


def _request_in(body: bytes, content_type: str | None) -> dict[str, Any]:
    value = _json(body)
    media_type = (content_type or "").split(";")[0].strip().lower()
    if media_type == STRUCTURED and isinstance(value, dict):
        value = _json(_base64(value)) if "data_base64" in value else value.get("data")
    if not isinstance(value, dict):
        raise Unreadable("not an object")
    return value


def _base64(event: Mapping[str, Any]) -> bytes:
    data = event["data_base64"]
    if not isinstance(data, str):
        raise Unreadable("data_base64 is not a string")
    return base64.b64decode(data, validate=True)


def _json(text: bytes) -> Any:  # noqa: ANN401  # Any JSON value.
    characters = text.decode("utf-8")
    value = json.loads(characters, parse_constant=_no_json, parse_int=_integer)
    # Checked in the text, as only the last value of a repeated name is left in the result.
    for string in _STRING.findall(characters):
        json.loads(string).encode("utf-8")  # Raises for half a surrogate pair.
    if _depth(_STRING.sub("0", characters)) > DEPTH_MAX:
        raise Unreadable("nested too deeply")
    return value


def _no_json(word: str) -> NoReturn:
    raise Unreadable(word)


def _integer(digits: str) -> int:
    if len(digits.lstrip("-")) > DIGITS_MAX:
        raise Unreadable("too many digits")
    return int(digits)


def _depth(text: str) -> int:
    """How deeply the values of a JSON text without strings are nested."""
    depth = deepest = 0
    for token in re.findall(r"[\[{]|[\]}]|[^\s\[\]{},:]+", text):
        if token in "]}":
            depth -= 1
        else:
            deepest = max(deepest, depth + 1)
            depth += token in "[{"
    return deepest


def _is_name(value: object, pattern: str) -> bool:
    return isinstance(value, str) and re.fullmatch(pattern, value) is not None


def _is_integer(value: object, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _is_valid(name: str, request: Mapping[str, Any]) -> bool:
    value = request.get(name)
    match name:
        case "movieId":
            return _is_name(value, r"[A-Za-z0-9_-]{1,64}")
        case "timeSlotId":
            return _is_integer(value, 0, 2**53 - 1)
        case "numberOfPeople":
            return _is_integer(value, 1, 1000)
        case _:
            return value is None or (isinstance(value, str) and microseconds_of(value) is not None)


def microseconds_of(text: str) -> int | None:
    """The time in microseconds since the year 1; None if it is not an RFC 3339 time."""
    found = _TIME.fullmatch(text)
    if found is None:
        return None
    year, month, day, hour, minute, second = (int(found[n]) for n in range(1, 7))
    ahead_hours, ahead_minutes = (int(found[n] or 0) for n in (9, 10))
    if not (year >= 1 and 1 <= month <= 12 and 1 <= day <= calendar.monthrange(year, month)[1]):
        return None
    if hour > 23 or minute > 59 or second > 59 or ahead_hours > 23 or ahead_minutes > 59:
        return None
    ahead = (ahead_hours * 60 + ahead_minutes) * (-1 if found[8] == "-" else 1)
    minutes = (_days_before(year, month, day) * 24 + hour) * 60 + minute - ahead
    return (minutes * 60 + second) * 1_000_000 + int((found[7] or "0")[:6].ljust(6, "0"))


def _days_before(year: int, month: int, day: int) -> int:
    """The days since 1 January of the year 1, in the Gregorian calendar."""
    earlier = year - 1
    months = sum(calendar.monthrange(year, number)[1] for number in range(1, month))
    return earlier * 365 + earlier // 4 - earlier // 100 + earlier // 400 + months + day - 1


@dataclass
class Model:
    """Answers one request after another, and remembers each answer."""

    seats: dict[str, dict[int, int | None]]
    """Free seats by movie and time slot: below zero if another program has overbooked it, None if
    the stored values are not numbers."""
    now: int
    """Microseconds since the year 1."""
    first: dict[str, tuple[tuple[object, ...], str]] = field(default_factory=dict)
    """The content of the first request with each id, and its answer."""

    def answer(self, expected: Expected | None) -> str:
        """``confirmed``, the reason of a rejection, or the error of a dead letter."""
        if expected is None:
            return UNREADABLE
        invalid_values = tuple(
            held for name, held in expected.invalid.items() if name != "expiresAt"
        )
        asked = tuple(expected.fields.get(name) for name in FIELDS[:3])
        content = (*asked, bool(expected.invalid), invalid_values)
        if expected.request_id in self.first:
            content_then, answer_then = self.first[expected.request_id]
            return answer_then if content_then == content else "request_id_reused"
        answer = self._first_answer(expected)
        if answer != UNDELIVERABLE:
            self.first[expected.request_id] = (content, answer)
        return answer

    def _first_answer(self, expected: Expected) -> str:
        if expected.invalid:
            return "invalid_request"
        movie, slot, people, expires_at = (expected.fields[name] for name in FIELDS)
        if movie not in self.seats:
            return "unknown_movie"
        if slot not in self.seats[movie]:
            return "unknown_time_slot"
        seats = self.seats[movie][slot]
        if seats is None:
            return UNDELIVERABLE
        if expires_at is not None and (microseconds_of(expires_at) or 0) < self.now:
            return "expired"
        if people > max(0, seats):
            return "sold_out"
        self.seats[movie][slot] = seats - people
        return "confirmed"
