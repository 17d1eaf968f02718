"""The messages on the wire: a reservation request, and the event with its outcome.

Reading a request never raises: a body is a request, a request that breaks a rule, or something
without a usable ``requestId``, and each of these is answered.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, Final, Literal

import pydantic_core
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    StringConstraints,
    TypeAdapter,
    ValidationError,
)
from pydantic.alias_generators import to_camel

BODY_BYTES_MAX: Final = 64 * 1024
TIME_SLOT_ID_MAX: Final = 2**53 - 1
"""The largest integer that every JSON implementation holds exactly (RFC 8259, section 6)."""
PEOPLE_MAX: Final = 1000

STRUCTURED_CLOUD_EVENT: Final = "application/cloudevents+json"
"""CloudEvents 1.0, JSON format, section 3: an envelope with the request in ``data``."""

_SHOWN_CHARACTERS_MAX: Final = 100
_HOURS_AND_MINUTES: Final = r"([01]\d|2[0-3]):[0-5]\d"
_RFC3339: Final = re.compile(
    rf"\d{{4}}-\d\d-\d\d[Tt]{_HOURS_AND_MINUTES}:[0-5]\d(\.\d+)?([Zz]|[+-]{_HOURS_AND_MINUTES})",
    re.ASCII,
)
"""RFC 3339, section 5.6, without leap seconds, which Python lacks. Every number has its bounds
here, as what else ``fromisoformat`` takes differs between versions of Python: since 3.14 it reads
24:00:00, and one request would have two answers."""

Outcome = Literal["confirmed", "rejected"]
RejectionReason = Literal[
    "invalid_request", "unknown_movie", "unknown_time_slot", "expired", "sold_out"
]


def _rfc3339(value: object) -> object:
    """Only what RFC 3339 allows: pydantic alone would take ``2026-12-24`` and numbers as well."""
    if isinstance(value, datetime) or value is None:
        return value
    if not isinstance(value, str) or not _RFC3339.fullmatch(value):
        raise ValueError("not an RFC 3339 time")
    return datetime.fromisoformat(value.upper())


@lru_cache(maxsize=16)  # All decisions of a batch have the same time.
def _milliseconds(moment: datetime) -> str:
    """As in ``2026-11-22T18:00:00.123Z``: UTC, and the precision that MongoDB keeps."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


RequestId = Annotated[str, StringConstraints(strict=True, pattern=r"^[A-Za-z0-9._:-]{1,64}$")]
MovieId = Annotated[str, StringConstraints(strict=True, pattern=r"^[A-Za-z0-9_-]{1,64}$")]
TimeSlotId = Annotated[int, Field(strict=True, ge=0, le=TIME_SLOT_ID_MAX)]
NumberOfPeople = Annotated[int, Field(strict=True, ge=1, le=PEOPLE_MAX)]
Moment = Annotated[datetime, PlainSerializer(_milliseconds, when_used="json")]


class ReservationRequest(BaseModel):
    """A request for seats. Unknown fields are ignored, so that fields can be added later."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, frozen=True, extra="ignore"
    )

    request_id: RequestId
    movie_id: MovieId
    time_slot_id: TimeSlotId
    number_of_people: NumberOfPeople
    expires_at: Annotated[datetime | None, BeforeValidator(_rfc3339)] = None

    def to_json(self) -> bytes:
        """The body of the request, as it goes on the wire."""
        return self.__pydantic_serializer__.to_json(self, by_alias=True, exclude_none=True)


class FieldProblem(BaseModel):
    """What is wrong with one field of a request, and what it takes instead."""

    model_config = ConfigDict(frozen=True)

    field: str
    problem: str


class OutcomeEvent(BaseModel):
    """What became of a request: the body of every event, and what the ledger holds."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, frozen=True, extra="ignore"
    )

    request_id: str
    movie_id: str | None = None
    time_slot_id: int | None = None
    number_of_people: int | None = None
    outcome: Outcome
    reason: RejectionReason | None = None
    errors: tuple[FieldProblem, ...] | None = None
    movie_version: int | None = None
    seats_available: int | None = None
    decided_at: Moment

    @property
    def decided_at_text(self) -> str:
        """The time of the decision as it stands in the event, such as 2026-11-22T18:00:00.123Z."""
        return _milliseconds(self.decided_at)

    def to_json(self) -> bytes:
        """The body of the event: the same bytes for the same outcome."""
        return self.__pydantic_serializer__.to_json(self, by_alias=True, exclude_none=True)


@dataclass(frozen=True, slots=True)
class InvalidRequest:
    """A body with a valid ``requestId`` that breaks another rule; an invalid field is None."""

    request_id: str
    movie_id: str | None
    time_slot_id: int | None
    number_of_people: int | None
    errors: tuple[FieldProblem, ...]


@dataclass(frozen=True, slots=True)
class UnreadableRequest:
    """A body that no outcome can answer, because it names no request."""

    detail: str


_REQUEST: Final = TypeAdapter(ReservationRequest)

_RULES: Final = {
    "requestId": "1 to 64 characters of A-Z a-z 0-9 . _ : -",
    "movieId": "a string of 1 to 64 characters of A-Z a-z 0-9 _ -",
    "timeSlotId": f"an integer from 0 to {TIME_SLOT_ID_MAX}",
    "numberOfPeople": f"an integer from 1 to {PEOPLE_MAX}",
    "expiresAt": "an RFC 3339 time with an offset, such as 2026-12-24T19:30:00Z",
}


def read_request(
    body: bytes, content_type: str | None = None
) -> ReservationRequest | InvalidRequest | UnreadableRequest:
    """Read a request from plain JSON or a CloudEvent in binary or structured mode.

    In binary mode the body is the plain request and the attributes are headers, so only structured
    mode, which has a content type of its own, needs unpacking.
    """
    if len(body) > BODY_BYTES_MAX:
        return UnreadableRequest(
            f"the body has {len(body)} bytes; {BODY_BYTES_MAX} are the most a request may have"
        )
    try:
        value = pydantic_core.from_json(body, allow_inf_nan=False)
        if _media_type(content_type) == STRUCTURED_CLOUD_EVENT:
            value = _cloud_event_data(value)
    except ValueError as fault:
        return UnreadableRequest(f"the body is not JSON: {fault}")
    return _read_fields(value)


def _read_fields(value: object) -> ReservationRequest | InvalidRequest | UnreadableRequest:
    if not isinstance(value, dict):
        return UnreadableRequest(f"the body is not a JSON object but {_shown(value)}")
    try:
        return _REQUEST.validate_python(value, by_alias=True, by_name=False)
    except ValidationError as faults:
        broken = {str(fault["loc"][0]) for fault in faults.errors(include_url=False)}
    if "requestId" in broken:
        return UnreadableRequest(f"requestId {_problem('requestId', value)}")
    valid = {name: value.get(name) for name in _RULES if name not in broken}
    return InvalidRequest(
        request_id=value["requestId"],
        movie_id=valid.get("movieId"),
        time_slot_id=valid.get("timeSlotId"),
        number_of_people=valid.get("numberOfPeople"),
        errors=tuple(
            FieldProblem(field=name, problem=_problem(name, value))
            for name in _RULES
            if name in broken
        ),
    )


def _cloud_event_data(event: object) -> object:
    """The request inside a structured CloudEvent, in ``data`` or ``data_base64``."""
    if not isinstance(event, dict):
        return event
    if "data_base64" not in event:
        return event.get("data")
    try:
        data = base64.b64decode(event["data_base64"], validate=True)
    except (TypeError, binascii.Error) as fault:
        raise ValueError(f"data_base64: {fault}") from fault
    return pydantic_core.from_json(data, allow_inf_nan=False)


def _media_type(content_type: str | None) -> str:
    return (content_type or "").partition(";")[0].strip().lower()


def _problem(name: str, value: dict[str, object]) -> str:
    """The rule, and what the body has instead.

    The value is part of the text because two invalid bodies are the same request only if they are
    invalid in the same way, and this text is what is compared.
    """
    if name not in value:
        return f"is required: {_RULES[name]}"
    return f"must be {_RULES[name]}, not {_shown(value[name])}"


def _shown(value: object) -> str:
    """A value as JSON; one that is too long is cut, and its digest distinguishes it from others."""
    text = pydantic_core.to_json(value).decode()
    if len(text) <= _SHOWN_CHARACTERS_MAX:
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    return f"{text[:_SHOWN_CHARACTERS_MAX]}… ({len(text)} characters, SHA-256 {digest}…)"
