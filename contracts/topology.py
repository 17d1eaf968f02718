"""The names on the broker, and how each exchange and queue is declared.

Plain data, so that publishers, subscribers and operators can use it without a broker client. The
worker declares what is defined here and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

REQUESTS: Final = "reservations.requests"
EVENTS: Final = "reservations.events"
EVENTS_UNROUTED: Final = "reservations.events.unrouted"
DEAD_LETTERS: Final = "reservations.dead-letters"

DELIVERY_LIMIT: Final = 20
"""Failed deliveries after which RabbitMQ itself dead-letters a request."""

UNROUTED_EVENTS_MAX: Final = 1_000_000
"""Beyond this many unrouted events the oldest are dropped (about 0.5 GB of events)."""

UNROUTED_BYTES_MAX: Final = 1_000_000_000
"""The same bound in bytes, for events that list many errors."""

DEAD_LETTER_ERROR: Final = "x-reservation-error"
DEAD_LETTER_DETAIL: Final = "x-reservation-error-detail"

DeadLetterError = Literal[
    "invalid_request", "request_id_reused", "undeliverable", "unreadable_request"
]
ExchangeType = Literal["topic", "fanout"]
Argument = str | int

NO_ARGUMENTS: Final[Mapping[str, Argument]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Exchange:
    """A durable exchange."""

    name: str
    type: ExchangeType
    arguments: Mapping[str, Argument]


@dataclass(frozen=True, slots=True)
class Queue:
    """A durable queue, bound to the exchange of the same name."""

    name: str
    arguments: Mapping[str, Argument]
    binding_key: str = "#"


EXCHANGES: Final = (
    Exchange(DEAD_LETTERS, "fanout", NO_ARGUMENTS),
    Exchange(EVENTS_UNROUTED, "fanout", NO_ARGUMENTS),
    Exchange(EVENTS, "topic", MappingProxyType({"alternate-exchange": EVENTS_UNROUTED})),
    Exchange(REQUESTS, "topic", NO_ARGUMENTS),
)

QUEUES: Final = (
    Queue(DEAD_LETTERS, MappingProxyType({"x-queue-type": "quorum"})),
    Queue(
        EVENTS_UNROUTED,
        # No overflow argument: the oldest events make room, so that a full queue never
        # refuses an event and thereby blocks the requests behind it.
        MappingProxyType(
            {
                "x-queue-type": "classic",
                "x-max-length": UNROUTED_EVENTS_MAX,
                "x-max-length-bytes": UNROUTED_BYTES_MAX,
            }
        ),
    ),
    Queue(
        REQUESTS,
        MappingProxyType(
            {
                "x-queue-type": "quorum",
                "x-delivery-limit": DELIVERY_LIMIT,
                "x-dead-letter-exchange": DEAD_LETTERS,
                "x-dead-letter-strategy": "at-least-once",
                "x-overflow": "reject-publish",
            }
        ),
    ),
)


def request_routing_key(movie_id: str) -> str:
    """The routing key with which a publisher sends a request for this movie."""
    return movie_id


def event_routing_key(outcome: Literal["confirmed", "rejected"], movie_id: str | None) -> str:
    """The routing key of an outcome; for a movie id that was not valid it ends in ``invalid``."""
    return f"reservation.{outcome}.{movie_id or 'invalid'}"
