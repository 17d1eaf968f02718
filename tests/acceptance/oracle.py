"""What each body must get, worked out from the contract alone, without a line of the worker's.

Slow and plain on purpose: json from the standard library, and one rule after the other.
"""

from __future__ import annotations

import base64
import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn

FIELDS: Final = ("movieId", "timeSlotId", "numberOfPeople")
STRUCTURED: Final = "application/cloudevents+json"

VALID_TIMES: Final = ("2999-12-24T19:30:00Z", "2999-01-01T00:00:00.5+05:30")
PAST_TIMES: Final = ("2001-12-24T19:30:00Z", "2001-12-24t19:30:00.123456789z")
TIMES: Final = (None, *VALID_TIMES, *PAST_TIMES)
"""The only valid values of expiresAt that tests use, so that nobody needs to parse them."""


@dataclass
class Oracle:
    """Remembers the first content of each request id, as the ledger does."""

    slots: Mapping[tuple[str, int], int]
    """The seats of each slot there is: never to be filled, or without any."""
    movies: frozenset[str]
    first: dict[str, tuple[object, ...]] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    events: Counter[str] = field(default_factory=Counter)
    dead_letters: Counter[tuple[bytes, str]] = field(default_factory=Counter)

    def receive(self, body: bytes, content_type: str | None) -> None:
        """Note what this body must get."""
        request = _object_in(body, content_type)
        request_id = request.get("requestId") if request is not None else None
        if request is None or not _matches(r"[A-Za-z0-9._:-]{1,64}", request_id):
            self.dead_letters[body, "unreadable_request"] += 1
            return
        name, content = str(request_id), _content(request)
        if self.first.setdefault(name, content) != content:
            self.dead_letters[body, "request_id_reused"] += 1
            return
        self.events[name] += 1
        self.reasons.setdefault(name, self._reason(request))
        if self.reasons[name] == "invalid_request":
            self.dead_letters[body, "invalid_request"] += 1

    def _reason(self, request: Mapping[str, Any]) -> str:
        if not _is_valid(request):
            return "invalid_request"
        movie_id, slot, people = (request[name] for name in FIELDS)
        if movie_id not in self.movies:
            return "unknown_movie"
        if (movie_id, slot) not in self.slots:
            return "unknown_time_slot"
        if request.get("expiresAt") in PAST_TIMES:
            return "expired"
        return "sold_out" if people > self.slots[movie_id, slot] else "confirmed"


def _object_in(body: bytes, content_type: str | None) -> dict[str, Any] | None:
    """The JSON object that holds the request, if there is one."""
    if len(body) > 64 * 1024:
        return None
    try:
        value = _json(body)
        if content_type == STRUCTURED and isinstance(value, dict):
            if "data_base64" in value:
                value = _json(base64.b64decode(value["data_base64"], validate=True))
            else:
                value = value.get("data")
    except (ValueError, TypeError):
        return None
    return value if isinstance(value, dict) else None


def _json(text: bytes) -> Any:  # noqa: ANN401
    value = json.loads(text.decode("utf-8"), parse_constant=_no_json)
    json.dumps(value, ensure_ascii=False).encode("utf-8")  # Raises for half a surrogate pair.
    return value


def _no_json(word: str) -> NoReturn:
    raise ValueError(f"{word} is not JSON")


def _matches(pattern: str, value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(pattern, value, re.ASCII) is not None


def _integer(value: object, least: int, most: int) -> bool:
    return type(value) is int and least <= value <= most


def _holds(name: str, request: Mapping[str, Any]) -> bool:
    value = request.get(name)
    match name:
        case "movieId":
            return _matches(r"[A-Za-z0-9_-]{1,64}", value)
        case "timeSlotId":
            return _integer(value, 0, 2**53 - 1)
        case "numberOfPeople":
            return _integer(value, 1, 1000)
        case _:
            return value is None or (isinstance(value, str) and value in TIMES)


def _is_valid(request: Mapping[str, Any]) -> bool:
    return all(_holds(name, request) for name in (*FIELDS, "expiresAt"))


def _content(request: Mapping[str, Any]) -> tuple[object, ...]:
    """What makes it the same request: movie, slot and people, and whether it was valid."""
    shown = (json.dumps(request[name]) if name in request else "" for name in FIELDS)
    return (_is_valid(request), *shown)
