"""An outcome event as JSON, to the byte as in the contract."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Final

from contracts import FieldProblem, OutcomeEvent

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


def test_an_invalid_outcome_has_errors_and_only_valid_fields() -> None:
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


def test_times_are_written_in_utc_with_milliseconds() -> None:
    moment = datetime(2026, 11, 22, 20, 0, tzinfo=timezone(timedelta(hours=2)))
    event = OutcomeEvent(request_id="r", outcome="confirmed", decided_at=moment)
    assert event.decided_at_text == "2026-11-22T18:00:00.000Z"
    assert json.loads(event.to_json())["decidedAt"] == event.decided_at_text
