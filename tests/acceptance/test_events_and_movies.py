"""Where events and replies go and what they carry, and which stored movies can be booked."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any, Final

import pytest
from bson import ObjectId

from tests.acceptance.cinema import Cinema, request_for, slots

TRACE: Final = {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}


@pytest.fixture(scope="module")
async def at_work(shared_cinema: Cinema) -> Cinema:
    """A cinema with one worker for the whole module."""
    await shared_cinema.start_worker()
    return shared_cinema


def encoded(request: dict[str, Any]) -> bytes:
    return json.dumps(request).encode()


async def test_an_event_has_exactly_the_properties_of_the_contract(at_work: Cinema) -> None:
    movie = await at_work.show(*slots(10))
    request = request_for(movie)
    await at_work.client.publish(
        request,
        correlation_id="order-17",
        headers={**TRACE, "tracestate": "a=1", "x-secret": "not copied"},
        message_id="theirs",
        type="theirs",
        app_id="theirs",
        priority=3,
        expiration=60,
    )
    name = request["requestId"]
    event = (await at_work.client.outcomes([name]))[name]
    decided_at = event.content["decidedAt"]
    assert event.routing_key == f"reservation.confirmed.{movie}"
    moment = datetime.fromisoformat(decided_at).replace(microsecond=0)
    assert event.properties == {
        "content_type": "application/json",
        "content_encoding": None,
        "correlation_id": "order-17",
        "message_id": f"{name}:confirmed",
        "type": "reservation.confirmed.v1",
        "timestamp": moment,
        "app_id": "reservation-worker",
        "delivery_mode": 2,
        "reply_to": None,
    }
    assert event.headers == {
        **TRACE,
        "tracestate": "a=1",
        "ce-specversion": "1.0",
        "ce-id": f"{name}:confirmed",
        "ce-source": "/reservation-worker",
        "ce-type": "reservation.confirmed.v1",
        "ce-subject": movie,
        "ce-time": decided_at,
    }


async def test_the_queue_is_reached_through_the_default_exchange(
    at_work: Cinema,
) -> None:
    request = request_for(await at_work.show(*slots(10)))
    await at_work.client.publish(request, exchange="")
    assert (await at_work.client.outcome(request["requestId"]))["outcome"] == "confirmed"


async def test_whoever_gives_a_reply_address_gets_a_copy_there(at_work: Cinema) -> None:
    request = request_for(await at_work.show(*slots(10)))
    address = await at_work.client.reply_queue()
    await at_work.client.publish(request, reply_to=address, correlation_id="c")
    event = (await at_work.client.outcomes([request["requestId"]]))[request["requestId"]]
    await at_work.client.until(lambda: bool(at_work.client.replies))
    (reply,) = at_work.client.replies
    assert (reply.body, reply.properties) == (event.body, event.properties)


async def test_a_reply_address_that_is_gone_holds_nothing_up(at_work: Cinema) -> None:
    movie = await at_work.show(*slots(10))
    first, second = request_for(movie), request_for(movie)
    await at_work.client.publish(first, reply_to="nobody.is.here")
    await at_work.client.publish(second)
    for request in (first, second):
        assert (await at_work.client.outcome(request["requestId"]))["outcome"] == "confirmed"


async def test_a_movie_is_found_by_the_digits_of_its_object_id(at_work: Cinema) -> None:
    key = ObjectId()
    await at_work.database.movies.insert_one({"_id": key, "timeSlots": slots(5), "title": "Heat"})
    request = request_for(str(key), 2)
    await at_work.client.publish(request)
    outcome = await at_work.client.outcome(request["requestId"])
    assert (outcome["outcome"], outcome["movieVersion"]) == ("confirmed", 1)
    movie = await at_work.movie(key)
    assert (movie["version"], movie["title"]) == (1, "Heat")


async def test_a_request_for_a_malformed_movie_is_undeliverable(
    at_work: Cinema,
) -> None:
    bad, good = await at_work.show(), await at_work.show(*slots(9))
    await at_work.database.movies.update_one(
        {"_id": bad},
        {"$set": {"timeSlots": [{"id": 1, "capacity": "ten"}]}},
        bypass_document_validation=True,
    )
    stuck, fine = request_for(bad), request_for(good)
    await at_work.client.publish_all([stuck, fine])
    assert (await at_work.client.outcome(fine["requestId"]))["outcome"] == "confirmed"
    (dead_letter,) = await at_work.client.dead_letters(1, of=encoded(stuck))
    assert dead_letter.error == "undeliverable"
    assert "capacity" in dead_letter.headers["x-reservation-error-detail"]
    assert not await at_work.ledger([stuck["requestId"]])


async def test_an_undeliverable_request_may_be_sent_again_later(
    at_work: Cinema,
) -> None:
    movie = await at_work.show({"id": 1, "capacity": "ten"})
    request = request_for(movie)
    await at_work.client.publish(request)
    await at_work.client.dead_letters(1, of=encoded(request))
    await at_work.database.movies.update_one({"_id": movie}, {"$set": {"timeSlots": slots(3)}})
    await at_work.client.publish(request)
    assert (await at_work.client.outcome(request["requestId"]))["outcome"] == "confirmed"
