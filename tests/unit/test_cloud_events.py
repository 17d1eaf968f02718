"""Requests as CloudEvents, in structured and in binary mode."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Final

import pytest

from contracts import InvalidRequest, ReservationRequest, UnreadableRequest, read_request

STRUCTURED: Final = "application/cloudevents+json"
REQUEST: Final[dict[str, object]] = {
    "requestId": "r1",
    "movieId": "heat",
    "timeSlotId": 3,
    "numberOfPeople": 2,
    "expiresAt": "2026-12-24T19:30:00Z",
}
READ: Final = ReservationRequest(
    request_id="r1",
    movie_id="heat",
    time_slot_id=3,
    number_of_people=2,
    expires_at=datetime(2026, 12, 24, 19, 30, tzinfo=UTC),
)


def envelope(**content: object) -> bytes:
    attributes = {"specversion": "1.0", "id": "1", "source": "/shop", "type": "seats.wanted"}
    return json.dumps({**attributes, **content}).encode()


def encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


@pytest.mark.parametrize(
    "content_type",
    [STRUCTURED, STRUCTURED + "; charset=utf-8", "Application/CloudEvents+JSON ;charset=UTF-8"],
)
def test_a_structured_event_carries_the_request_in_its_data(content_type: str) -> None:
    assert read_request(envelope(data=REQUEST), content_type) == READ


def test_a_structured_event_may_carry_the_request_in_base64() -> None:
    data = encoded(json.dumps(REQUEST).encode())
    assert read_request(envelope(data_base64=data), STRUCTURED) == READ


@pytest.mark.parametrize("content_type", [None, "", "application/json", "text/plain", "nonsense"])
def test_in_binary_mode_any_media_type_holds_the_request(
    content_type: str | None,
) -> None:
    assert read_request(json.dumps(REQUEST).encode(), content_type) == READ


def test_only_the_content_type_makes_a_body_an_envelope() -> None:
    assert isinstance(read_request(envelope(data=REQUEST), "application/json"), UnreadableRequest)


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"data": None},
        {"data": []},
        {"data": json.dumps(REQUEST)},
        {"data_base64": None},
        {"data_base64": 5},
        {"data_base64": {}},
        {"data_base64": "é"},
        {"data_base64": "e30"},
        {"data_base64": encoded(b"\xff\xfe")},
        {"data_base64": encoded(b"[]")},
        {"data_base64": "!" + encoded(json.dumps(REQUEST).encode())},
        {"data_base64": encoded(b'"\\ud800"')},
    ],
)
def test_an_envelope_without_a_request_is_unreadable(content: dict[str, object]) -> None:
    assert isinstance(read_request(envelope(**content), STRUCTURED), UnreadableRequest)


@pytest.mark.parametrize("body", [b"[]", b"null", b"5", b'"x"', json.dumps(REQUEST).encode()])
def test_a_structured_body_that_is_no_envelope_is_unreadable(body: bytes) -> None:
    assert isinstance(read_request(body, STRUCTURED), UnreadableRequest)


def test_types_are_as_strict_inside_an_envelope() -> None:
    for data in ({**REQUEST, "timeSlotId": 3.0}, {**REQUEST, "numberOfPeople": True}):
        assert isinstance(read_request(envelope(data=data), STRUCTURED), InvalidRequest)
        text = encoded(json.dumps(data).encode())
        assert isinstance(read_request(envelope(data_base64=text), STRUCTURED), InvalidRequest)


def test_invalid_fields_are_reported_alike_in_every_mode() -> None:
    faulty = {**REQUEST, "numberOfPeople": 0, "expiresAt": "soon"}
    plain = json.dumps(faulty).encode()
    assert (
        read_request(plain)
        == read_request(envelope(data=faulty), STRUCTURED)
        == read_request(envelope(data_base64=encoded(plain)), STRUCTURED)
    )
