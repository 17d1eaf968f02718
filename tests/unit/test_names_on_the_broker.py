"""The exchanges and queues, with the names and arguments that the contract gives them."""

from __future__ import annotations

from typing import Final, get_args

from contracts import topology

EXCHANGES: Final = [
    ("reservations.dead-letters", "fanout", {}),
    ("reservations.events.unrouted", "fanout", {}),
    ("reservations.events", "topic", {"alternate-exchange": "reservations.events.unrouted"}),
    ("reservations.requests", "topic", {}),
]
QUEUES: Final = [
    ("reservations.dead-letters", "#", {"x-queue-type": "quorum"}),
    (
        "reservations.events.unrouted",
        "#",
        {
            "x-queue-type": "classic",
            "x-max-length": 1_000_000,
            "x-max-length-bytes": 1_000_000_000,
        },
    ),
    (
        "reservations.requests",
        "#",
        {
            "x-queue-type": "quorum",
            "x-delivery-limit": 20,
            "x-dead-letter-exchange": "reservations.dead-letters",
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",
        },
    ),
]


def test_the_exchanges_are_as_in_the_contract() -> None:
    found = [(exchange.name, exchange.type, exchange.arguments) for exchange in topology.EXCHANGES]
    assert found == EXCHANGES


def test_the_queues_are_as_in_the_contract() -> None:
    found = [(queue.name, queue.binding_key, queue.arguments) for queue in topology.QUEUES]
    assert found == QUEUES


def test_each_queue_is_bound_to_an_exchange_of_its_name() -> None:
    names = {exchange.name for exchange in topology.EXCHANGES}
    assert {queue.name for queue in topology.QUEUES} <= names


def test_a_dead_letter_says_one_of_four_errors() -> None:
    assert set(get_args(topology.DeadLetterError)) == {
        "invalid_request",
        "request_id_reused",
        "undeliverable",
        "unreadable_request",
    }
    assert topology.DEAD_LETTER_ERROR == "x-reservation-error"
    assert topology.DEAD_LETTER_DETAIL == "x-reservation-error-detail"


def test_a_request_is_sent_with_its_movie_id_as_routing_key() -> None:
    assert topology.request_routing_key("heat") == "heat"
