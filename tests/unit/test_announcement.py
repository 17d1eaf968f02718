"""What is published for an answer: properties and headers exactly as the contract has them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

import pytest

from contracts import FieldProblem, OutcomeEvent, UnreadableRequest
from tests.unit.values import ask as asked
from tests.unit.values import confirmed, found_invalid
from tests.unit.values import faulty as faulty_request
from worker.broker.messages import Delivery, Message
from worker.rules.decision import Reused, Undecidable
from worker.service.announcement import announcement

TRACE: Final = {"traceparent": "00-4bf92f35-00f067aa-01", "tracestate": "shop=1"}
DELIVERY: Final = Delivery(
    tag=7,
    body=b'{"as": "it arrived"}',
    routing_key="heat",
    content_type="application/json",
    content_encoding="identity",
    correlation_id="order-17",
    trace_context=TRACE,
)
CONFIRMED: Final = confirmed(asked("r1")).model_copy(
    update={"decided_at": datetime(2026, 11, 22, 18, 0, 0, 123000, tzinfo=UTC)}
)
SOLD_OUT: Final = CONFIRMED.model_copy(update={"outcome": "rejected", "reason": "sold_out"})
INVALID: Final = found_invalid(faulty_request("r1"))
NO_MOVIE: Final = found_invalid(faulty_request("r1", field="movieId"))


def only(messages: list[Message]) -> Message:
    (message,) = messages
    return message


def test_the_event_of_a_confirmation_is_as_the_contract_has_it() -> None:
    assert only(announcement(DELIVERY, CONFIRMED)) == Message(
        exchange="reservations.events",
        routing_key="reservation.confirmed.heat",
        body=CONFIRMED.to_json(),
        headers={
            "ce-specversion": "1.0",
            "ce-id": "r1:confirmed",
            "ce-source": "/reservation-worker",
            "ce-type": "reservation.confirmed.v1",
            "ce-subject": "heat",
            "ce-time": "2026-11-22T18:00:00.123Z",
            **TRACE,
        },
        mandatory=True,
        content_type="application/json",
        correlation_id="order-17",
        message_id="r1:confirmed",
        type="reservation.confirmed.v1",
        timestamp=CONFIRMED.decided_at,
    )


def test_the_event_of_a_rejection_says_so_everywhere() -> None:
    event = only(announcement(DELIVERY, SOLD_OUT))
    assert event.routing_key == "reservation.rejected.heat"
    assert event.message_id == event.headers["ce-id"] == "r1:rejected"
    assert event.type == event.headers["ce-type"] == "reservation.rejected.v1"
    assert event.body == SOLD_OUT.to_json()


def test_a_request_without_a_correlation_id_is_correlated_by_its_request_id() -> None:
    for nothing in (None, ""):
        delivery = replace(DELIVERY, correlation_id=nothing)
        assert only(announcement(delivery, CONFIRMED)).correlation_id == "r1"


def test_a_request_without_a_trace_has_an_event_without_one() -> None:
    event = only(announcement(replace(DELIVERY, trace_context=None), CONFIRMED))
    assert not set(event.headers) & set(TRACE)


def test_whoever_asked_for_a_reply_gets_the_same_event_through_the_default_exchange() -> None:
    event, reply = announcement(replace(DELIVERY, reply_to="shop.replies"), CONFIRMED)
    assert event == only(announcement(DELIVERY, CONFIRMED))
    assert reply == replace(event, exchange="", routing_key="shop.replies", mandatory=False)


def test_a_direct_reply_goes_to_the_name_that_the_broker_made_of_it() -> None:
    process = "g1h2AA5yZXBseUAyMTczMzU1NgAAM5AAAAAAawMokQ=="
    name = f"amq.rabbitmq.reply-to.{process}.24UCQc8TICWECejUmZ9NnQ=="
    _, reply = announcement(replace(DELIVERY, reply_to=name), CONFIRMED)
    assert (reply.exchange, reply.routing_key) == ("", name)


def test_the_bare_name_for_direct_replies_is_not_used_for_it_would_close_the_channel() -> None:
    delivery = replace(DELIVERY, reply_to="amq.rabbitmq.reply-to")
    assert only(announcement(delivery, CONFIRMED)).exchange == "reservations.events"
    assert only(announcement(delivery, Reused("why"))).reply_to is None


def test_an_invalid_request_gets_its_event_and_a_dead_letter() -> None:
    event, letter = announcement(DELIVERY, INVALID)
    assert (event.exchange, letter.exchange) == ("reservations.events", "reservations.dead-letters")
    assert event.routing_key == "reservation.rejected.heat"
    assert event.body == INVALID.to_json()
    assert letter.headers["x-reservation-error"] == "invalid_request"
    assert "numberOfPeople must be something else" in letter.headers["x-reservation-error-detail"]


def test_where_the_movie_id_is_invalid_routing_key_and_subject_say_so() -> None:
    event, _ = announcement(DELIVERY, NO_MOVIE)
    assert event.routing_key == "reservation.rejected.invalid"
    assert event.headers["ce-subject"] == "invalid"


def test_an_invalid_request_that_asked_for_a_reply_gets_that_too() -> None:
    messages = announcement(replace(DELIVERY, reply_to="shop.replies"), INVALID)
    exchanges = [message.exchange for message in messages]
    assert exchanges == ["reservations.events", "", "reservations.dead-letters"]


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (Reused("why"), "request_id_reused"),
        (Undecidable("why"), "undeliverable"),
        (UnreadableRequest("why"), "unreadable_request"),
    ],
)
def test_what_has_no_outcome_is_dead_lettered_as_it_arrived(
    answer: Reused | Undecidable | UnreadableRequest, error: str
) -> None:
    delivery = replace(DELIVERY, reply_to="shop.replies")
    assert only(announcement(delivery, answer)) == Message(
        exchange="reservations.dead-letters",
        routing_key="heat",
        body=b'{"as": "it arrived"}',
        headers={"x-reservation-error": error, "x-reservation-error-detail": "why", **TRACE},
        mandatory=True,
        content_type="application/json",
        content_encoding="identity",
        correlation_id="order-17",
        reply_to="shop.replies",
    )


def test_no_fault_is_so_long_that_its_text_would_not_fit_in_a_header() -> None:
    letter = only(announcement(DELIVERY, UnreadableRequest("x" * 100_000)))
    assert len(letter.headers["x-reservation-error-detail"]) <= 1000


def test_the_same_outcome_is_the_same_event_however_often_and_for_whichever_delivery() -> None:
    again = replace(DELIVERY, tag=99, body=b"{}", failures=3, routing_key="elsewhere")
    assert announcement(again, CONFIRMED) == announcement(DELIVERY, CONFIRMED)


def test_several_errors_are_told_in_one_header() -> None:
    errors = (FieldProblem(field="a", problem="is bad"), FieldProblem(field="b", problem="is too"))
    outcome: OutcomeEvent = INVALID.model_copy(update={"errors": errors})
    letter = announcement(DELIVERY, outcome)[-1]
    assert letter.headers["x-reservation-error-detail"] == "a is bad; b is too"
