"""A request inside a CloudEvent, in structured and in binary mode; and the event as JSON."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Final

import pytest

from contracts import (
    FieldProblem,
    InvalidRequest,
    OutcomeEvent,
    ReservationRequest,
    UnreadableRequest,
    read_request,
)

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
def test_in_binary_mode_the_body_is_the_request_whatever_its_media_type(
    content_type: str | None,
) -> None:
    assert read_request(json.dumps(REQUEST).encode(), content_type) == READ


def test_an_envelope_is_not_unpacked_unless_its_content_type_says_so() -> None:
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
def test_an_envelope_without_a_request_in_it_cannot_be_read(content: dict[str, object]) -> None:
    assert isinstance(read_request(envelope(**content), STRUCTURED), UnreadableRequest)


@pytest.mark.parametrize("body", [b"[]", b"null", b"5", b'"x"', json.dumps(REQUEST).encode()])
def test_what_is_called_an_envelope_but_is_none_cannot_be_read(body: bytes) -> None:
    assert isinstance(read_request(body, STRUCTURED), UnreadableRequest)


def test_types_are_as_strict_inside_an_envelope() -> None:
    for data in ({**REQUEST, "timeSlotId": 3.0}, {**REQUEST, "numberOfPeople": True}):
        assert isinstance(read_request(envelope(data=data), STRUCTURED), InvalidRequest)
        text = encoded(json.dumps(data).encode())
        assert isinstance(read_request(envelope(data_base64=text), STRUCTURED), InvalidRequest)


def test_faults_are_told_alike_whichever_way_the_request_came() -> None:
    faulty = {**REQUEST, "numberOfPeople": 0, "expiresAt": "soon"}
    plain = json.dumps(faulty).encode()
    assert (
        read_request(plain)
        == read_request(envelope(data=faulty), STRUCTURED)
        == read_request(envelope(data_base64=encoded(plain)), STRUCTURED)
    )


DECIDED_AT: Final = datetime(2026, 11, 22, 18, 0, 0, 123000, tzinfo=UTC)


def test_a_confirmation_reads_as_in_the_contract() -> None:
    event = OutcomeEvent(
        request_id="5b0c",
        movie_id="665f",
        time_slot_id=3,
        number_of_people=2,
        outcome="confirmed",
        movie_version=42,
        seats_available=17,
        decided_at=DECIDED_AT,
    )
    assert event.to_json() == (
        b'{"requestId":"5b0c","movieId":"665f","timeSlotId":3,"numberOfPeople":2,'
        b'"outcome":"confirmed","movieVersion":42,"seatsAvailable":17,'
        b'"decidedAt":"2026-11-22T18:00:00.123Z"}'
    )


def test_a_rejection_reads_as_in_the_contract() -> None:
    event = OutcomeEvent(
        request_id="5b0d",
        movie_id="665f",
        time_slot_id=3,
        number_of_people=40,
        outcome="rejected",
        reason="sold_out",
        movie_version=42,
        seats_available=0,
        decided_at=DECIDED_AT,
    )
    assert event.to_json() == (
        b'{"requestId":"5b0d","movieId":"665f","timeSlotId":3,"numberOfPeople":40,'
        b'"outcome":"rejected","reason":"sold_out","movieVersion":42,"seatsAvailable":0,'
        b'"decidedAt":"2026-11-22T18:00:00.123Z"}'
    )


def test_an_invalid_outcome_has_its_errors_and_only_the_valid_fields() -> None:
    event = OutcomeEvent(
        request_id="5b0e",
        time_slot_id=0,
        outcome="rejected",
        reason="invalid_request",
        errors=(FieldProblem(field="movieId", problem='must be …, not "é"'),),
        decided_at=DECIDED_AT,
    )
    assert event.to_json().decode() == (
        '{"requestId":"5b0e","timeSlotId":0,"outcome":"rejected","reason":"invalid_request",'
        '"errors":[{"field":"movieId","problem":"must be …, not \\"é\\""}],'
        '"decidedAt":"2026-11-22T18:00:00.123Z"}'
    )


def test_times_are_told_in_utc_and_with_three_digits_after_the_second() -> None:
    moment = datetime(2026, 11, 22, 20, 0, tzinfo=timezone(timedelta(hours=2)))
    event = OutcomeEvent(request_id="r", outcome="confirmed", decided_at=moment)
    assert event.decided_at_text == "2026-11-22T18:00:00.000Z"
    assert json.loads(event.to_json())["decidedAt"] == event.decided_at_text
