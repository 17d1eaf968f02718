"""The values of the contract as publishers and subscribers build them, and their exact text."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

import pytest
from pydantic import BaseModel, ValidationError

from contracts import (
    FieldProblem,
    InvalidRequest,
    OutcomeEvent,
    ReservationRequest,
    UnreadableRequest,
    read_request,
)
from tests.unit.values import NOW, ask

VALID: Final[dict[str, object]] = {
    "requestId": "r1",
    "movieId": "heat",
    "timeSlotId": 3,
    "numberOfPeople": 2,
}


def read_invalid(**changes: object) -> InvalidRequest:
    read = read_request(json.dumps(VALID | changes).encode())
    assert isinstance(read, InvalidRequest)
    return read


@pytest.fixture
def _in_new_york(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "America/New_York")
        time.tzset()
        yield
    time.tzset()


def test_a_request_is_written_as_in_the_contract() -> None:
    assert ask(expires_at=datetime(2026, 12, 24, 19, 30, tzinfo=UTC)).to_json() == (
        b'{"requestId":"r1","movieId":"heat","timeSlotId":1,"numberOfPeople":2,'
        b'"expiresAt":"2026-12-24T19:30:00Z"}'
    )


def test_what_a_request_does_not_have_is_not_written() -> None:
    assert ask().to_json() == (
        b'{"requestId":"r1","movieId":"heat","timeSlotId":1,"numberOfPeople":2}'
    )


def test_a_request_that_does_not_expire_says_so() -> None:
    read = read_request(json.dumps(VALID).encode())
    assert isinstance(read, ReservationRequest)
    assert read.expires_at is None


def test_nan_is_refused_in_base64_too() -> None:
    data = base64.b64encode(json.dumps({**VALID, "x": math.nan}).encode()).decode()
    event = json.dumps({"specversion": "1.0", "data_base64": data}).encode()
    read = read_request(event, "application/cloudevents+json")
    assert isinstance(read, UnreadableRequest)


@pytest.mark.parametrize("field", ["request_id", "movie_id"])
def test_an_id_is_text_and_never_bytes(field: str) -> None:
    values = {"request_id": "r1", "movie_id": "heat", "time_slot_id": 1, "number_of_people": 2}
    with pytest.raises(ValidationError, match=field.partition("_")[0]):
        ReservationRequest.model_validate(values | {field: b"r1"})


@pytest.mark.parametrize(
    ("value", "field"),
    [
        (ask(), "movie_id"),
        (OutcomeEvent(request_id="r1", outcome="confirmed", decided_at=NOW), "outcome"),
        (FieldProblem(field="movieId", problem="is bad"), "problem"),
    ],
)
def test_a_value_of_the_contract_never_changes(value: BaseModel, field: str) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        setattr(value, field, "changed")


@pytest.mark.usefixtures("_in_new_york")
def test_times_are_in_utc_whatever_the_time_zone_of_the_machine() -> None:
    moment = datetime(2026, 7, 1, 12, 0, 0, 250_000, tzinfo=UTC)
    event = OutcomeEvent(request_id="r1", outcome="confirmed", decided_at=moment)
    assert event.decided_at_text == "2026-07-01T12:00:00.250Z"


def test_only_as_json_is_a_time_text() -> None:
    event = OutcomeEvent(request_id="r1", outcome="confirmed", decided_at=NOW)
    assert event.model_dump()["decided_at"] == NOW
    assert event.model_dump(mode="json")["decided_at"] == "2026-11-22T18:00:00.123Z"


# The ledger keeps these texts, and a request that comes again is compared with them. Other words
# for the same fault would make each request that was found invalid before an id that is reused.
RULES: Final = {
    "movieId": "a string of 1 to 64 characters of A-Z a-z 0-9 _ -",
    "timeSlotId": "an integer from 0 to 9007199254740991",
    "numberOfPeople": "an integer from 1 to 1000",
    "expiresAt": "an RFC 3339 time with an offset, such as 2026-12-24T19:30:00Z",
}


@pytest.mark.parametrize("field", RULES)
def test_a_fault_is_always_put_in_the_same_words(field: str) -> None:
    (error,) = read_invalid(**{field: ""}).errors
    assert error == FieldProblem(field=field, problem=f'must be {RULES[field]}, not ""')


@pytest.mark.parametrize("field", ["movieId", "timeSlotId", "numberOfPeople"])
def test_a_missing_field_is_always_put_in_the_same_words(field: str) -> None:
    body = json.dumps({name: value for name, value in VALID.items() if name != field})
    read = read_request(body.encode())
    assert isinstance(read, InvalidRequest)
    assert read.errors == (FieldProblem(field=field, problem=f"is required: {RULES[field]}"),)


def test_a_value_of_more_than_100_characters_is_cut() -> None:
    whole, cut = (read_invalid(expiresAt="x" * length).errors[0].problem for length in (98, 99))
    text = '"' + 99 * "x" + '"'
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    assert whole.endswith(', not "' + 98 * "x" + '"')
    assert cut.endswith(f", not {text[:100]}… (101 characters, SHA-256 {digest}…)")


@pytest.mark.parametrize("field", RULES)
def test_an_invalid_request_keeps_each_field_that_is_valid(field: str) -> None:
    read = read_invalid(**{field: []})
    kept = {
        "movieId": read.movie_id,
        "timeSlotId": read.time_slot_id,
        "numberOfPeople": read.number_of_people,
    }
    assert kept == {name: None if name == field else VALID[name] for name in kept}
