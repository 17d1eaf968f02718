"""What is published for an answer: pure functions from a delivery and its answer to messages.

Events are built from the contract alone. Of what a publisher sent, only the correlation id, the
reply address and the trace context become part of an event.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from contracts import OutcomeEvent, UnreadableRequest, topology
from contracts.topology import DeadLetterError
from worker.broker.messages import Delivery, Message
from worker.broker.reply_address import reply_address
from worker.rules.decision import Reused, Undecidable


@dataclass(frozen=True, slots=True)
class GivenUp:
    """A delivery that kept failing; its request may have an outcome all the same."""

    detail: str
    outcome: OutcomeEvent | None


Answer = OutcomeEvent | Reused | Undecidable | UnreadableRequest | GivenUp
"""What became of a delivery: an outcome that is in the ledger, or the reason why there is none."""

EVENT_SOURCE: Final = "/reservation-worker"
INVALID_SUBJECT: Final = "invalid"
NO_HEADERS: Final[Mapping[str, str]] = {}

DETAIL_CHARACTERS_MAX: Final = 1000
"""So that a fault with a long text does not make a header frame larger than AMQP allows."""


def announcement(delivery: Delivery, answer: Answer) -> list[Message]:
    """Everything to publish; what is mandatory must be confirmed before the acknowledgement."""
    match answer:
        case OutcomeEvent():
            messages = outcome_events(delivery, answer)
            if answer.reason == "invalid_request":
                detail = "; ".join(f"{e.field} {e.problem}" for e in answer.errors or ())
                messages.append(dead_letter(delivery, "invalid_request", detail))
            return messages
        case Reused(detail):
            return [dead_letter(delivery, "request_id_reused", detail)]
        case Undecidable(detail):
            return [dead_letter(delivery, "undeliverable", detail)]
        case UnreadableRequest(detail):
            return [dead_letter(delivery, "unreadable_request", detail)]
        case GivenUp(detail, outcome):
            given_up = dead_letter(delivery, "undeliverable", detail)
            return [given_up] if outcome is None else [*outcome_events(delivery, outcome), given_up]


def dead_letter(delivery: Delivery, error: DeadLetterError, detail: str) -> Message:
    """The request as it arrived, with what is wrong about it in two headers.

    Its expiration, priority, user id and further headers are left out: the first would make the
    dead letter vanish, and an echoed user id or CC header makes the broker refuse or multiply it.
    """
    return Message(
        exchange=topology.DEAD_LETTERS,
        routing_key=delivery.routing_key,
        body=delivery.body,
        headers={
            **(delivery.trace_context or NO_HEADERS),
            topology.DEAD_LETTER_ERROR: error,
            topology.DEAD_LETTER_DETAIL: detail[:DETAIL_CHARACTERS_MAX],
        },
        mandatory=True,
        content_type=delivery.content_type,
        content_encoding=delivery.content_encoding,
        correlation_id=delivery.correlation_id,
        # RabbitMQ closes the channel on the bare name of its direct reply-to in this place.
        reply_to=reply_address(delivery.reply_to),
    )


def outcome_events(delivery: Delivery, outcome: OutcomeEvent) -> list[Message]:
    """The event for every subscriber, and a copy for the publisher that asked for a reply."""
    event_id = f"{outcome.request_id}:{outcome.outcome}"
    event_type = f"reservation.{outcome.outcome}.v1"
    body = outcome.to_json()
    headers = {
        **(delivery.trace_context or NO_HEADERS),
        "ce-specversion": "1.0",
        "ce-id": event_id,
        "ce-source": EVENT_SOURCE,
        "ce-type": event_type,
        "ce-subject": outcome.movie_id or INVALID_SUBJECT,
        "ce-time": outcome.decided_at_text,
    }
    routing_key = topology.event_routing_key(outcome.outcome, outcome.movie_id)
    addresses = [(topology.EVENTS, routing_key, True)]
    if reply_to := reply_address(delivery.reply_to):
        # Not mandatory: the publisher may be gone by now, which must not hold up the others.
        addresses.append(("", reply_to, False))
    return [
        Message(
            exchange=exchange,
            routing_key=key,
            body=body,
            headers=headers,
            mandatory=mandatory,
            content_type="application/json",
            correlation_id=delivery.correlation_id or outcome.request_id,
            message_id=event_id,
            type=event_type,
            timestamp=outcome.decided_at,
        )
        for exchange, key, mandatory in addresses
    ]
