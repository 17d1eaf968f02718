"""Redriving dead letters: back to the queue or straight to their outcome, and never lost."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.acceptance.cinema import Cinema, request_for, slots
from tests.acceptance.client import DEAD_LETTERS, EVENTS, REQUESTS, Received
from tests.acceptance.commands import Ended
from tests.integration.dead_letters import all_of, bodies, post, run_dead_letters


@pytest.fixture(autouse=True)
async def _dead_letters_stay_where_they_are(cinema: Cinema) -> None:
    await cinema.client.leave_dead_letters()


async def redrive(cinema: Cinema, *options: str, page_size: int | None = None) -> Ended:
    """Run ``dead-letters redrive`` on the broker and the database of this test."""
    settings = {
        "AMQP_URL": cinema.amqp_url,
        "MONGODB_URI": cinema.mongodb_uri,
        "MONGODB_DATABASE": cinema.database.name,
    }
    return await run_dead_letters(settings, "redrive", *options, page_size=page_size)


async def all_requests(cinema: Cinema, number: int) -> list[Received]:
    """All requests that wait in the queue, of which there are so many."""
    queue = await cinema.client.channel.get_queue(REQUESTS)
    found = [await queue.get(no_ack=True, timeout=10) for _ in range(number)]
    for message in found:
        message.headers.pop("x-delivery-count", None)  # The broker's own.
    return [Received.of(message) for message in found]


async def test_a_dead_letter_goes_back_as_it_was_without_its_error(cinema: Cinema) -> None:
    trace = {"traceparent": "00-abc", "tracestate": "x=y"}
    body = b' {"requestId": "r-1", "any": "thing"} '
    await post(
        cinema.client,
        body,
        headers=trace,
        content_type="application/json",
        content_encoding="identity",
        correlation_id="c-1",
        reply_to="answers",
    )
    await post(cinema.client, b"no JSON", "unreadable_request", key="invalid")
    ended = await redrive(cinema, "--yes")
    assert ended.code == 0
    assert ended.output == (
        "sent 2 back to reservations.requests, and published the recorded outcomes of 0\n"
    )
    first, second = await all_requests(cinema, 2)
    assert (first.body, first.routing_key, dict(first.headers)) == (body, "heat", trace)
    assert (
        first.properties.items()
        >= {
            "content_type": "application/json",
            "content_encoding": "identity",
            "correlation_id": "c-1",
            "reply_to": "answers",
            "delivery_mode": 2,
        }.items()
    )
    assert (second.body, second.routing_key, dict(second.headers)) == (b"no JSON", "invalid", {})
    assert await cinema.client.depth(DEAD_LETTERS) == 0


async def test_an_undeliverable_request_gets_its_outcome_once_it_can(cinema: Cinema) -> None:
    movie = await cinema.show({"id": 1, "capacity": "many"})
    await cinema.start_worker()
    request = request_for(movie)
    await cinema.client.consume_dead_letters()
    await cinema.client.publish(request)
    await cinema.client.dead_letters(1)
    await cinema.client.leave_dead_letters()
    (dead_letter,) = cinema.client.received_dead_letters
    error = str(dead_letter.headers["x-reservation-error"])
    await post(cinema.client, dead_letter.body, error, key=dead_letter.routing_key)
    await cinema.database.movies.update_one({}, {"$set": {"timeSlots.0.capacity": 5}})
    ended = await redrive(cinema, "--error", "undeliverable", "--movie", str(movie), "--yes")
    assert (ended.code, ended.output.startswith("sent 1 back")) == (0, True)
    assert (await cinema.client.outcome(request["requestId"]))["outcome"] == "confirmed"


async def test_a_recorded_outcome_is_published_instead_with_a_reply(cinema: Cinema) -> None:
    movie = await cinema.show(*slots(5))
    worker = await cinema.start_worker()
    good, faulty = request_for(movie), request_for(movie, people=0)
    ids = [request["requestId"] for request in (good, faulty)]
    await cinema.client.publish_all([good, faulty])
    first = await cinema.client.outcomes(ids)
    await worker.stop()
    await post(cinema.client, good, correlation_id="c", reply_to=await cinema.client.reply_queue())
    await post(cinema.client, {**good, "numberOfPeople": 3})
    ended = await redrive(cinema, "--yes")
    assert ended.code == 0
    assert ended.output == (
        "sent 0 back to reservations.requests, and published the recorded outcomes of 2; left 1 "
        "whose request id is taken by another request, so that they would only come back\n"
    )
    for request_id in ids:
        (_, again) = await cinema.client.all_events(request_id, 2)
        assert again.body == first[request_id].body
        assert again.properties["message_id"] == first[request_id].properties["message_id"]
    assert cinema.client.events[ids[0]][1].properties["correlation_id"] == "c"
    await cinema.client.until(lambda: len(cinema.client.replies) == 1)
    assert cinema.client.replies[0].body == first[ids[0]].body
    assert await cinema.client.depth(REQUESTS) == 0
    (left,) = await all_of(cinema.client, 1)
    assert left.content["numberOfPeople"] == 3


async def test_a_dry_run_says_what_would_be_done_and_does_nothing(cinema: Cinema) -> None:
    await post(cinema.client, b"1")
    rehearsed = await redrive(cinema, "--dry-run")
    assert rehearsed.code == 0
    assert rehearsed.output.startswith("would have sent 1 back to reservations.requests")
    assert await cinema.client.depth(REQUESTS) == 0
    unasked = await redrive(cinema)
    assert unasked.code == 2
    assert "Redrive 1 of 1 dead letters? There is no terminal" in unasked.errors
    assert len(await all_of(cinema.client, 1)) == 1


async def test_what_the_request_queue_refuses_stays_a_dead_letter(cinema: Cinema) -> None:
    channel = cinema.client.channel
    await channel.queue_delete(REQUESTS)
    # A classic queue refuses exactly what is too much; a quorum queue lets a few more in.
    small = await channel.declare_queue(
        REQUESTS, durable=True, arguments={"x-max-length": 2, "x-overflow": "reject-publish"}
    )
    await small.bind(REQUESTS, "#")
    for number in range(7):
        await post(cinema.client, str(number).encode())
    ended = await redrive(cinema, "--yes", page_size=3)
    assert (ended.code, ended.output.startswith("sent 2 back")) == (3, True)
    assert "refused the messages for 5 dead letters, which are still" in ended.errors
    assert bodies(await all_requests(cinema, 2)) == [b"0", b"1"]
    assert bodies(await all_of(cinema.client, 5)) == [b"2", b"3", b"4", b"5", b"6"]


@pytest.mark.parametrize("missing", ["queue", "exchange"])
async def test_without_a_queue_to_send_them_to_all_dead_letters_stay(
    cinema: Cinema, missing: str
) -> None:
    for number in range(3):
        await post(cinema.client, str(number).encode())
    if missing == "queue":
        await cinema.client.channel.queue_delete(REQUESTS)
    else:
        await cinema.client.channel.exchange_delete(REQUESTS)
    ended = await redrive(cinema, "--yes")
    assert (ended.code, "publishing: " in ended.errors) == (3, True)
    assert bodies(await all_of(cinema.client, 3)) == [b"0", b"1", b"2"]


async def test_events_that_are_refused_keep_their_dead_letters(cinema: Cinema) -> None:
    movie = await cinema.show(*slots(5))
    worker = await cinema.start_worker()
    requests = [request_for(movie) for _ in range(3)]
    await cinema.client.publish_all(requests)
    await cinema.client.outcomes([request["requestId"] for request in requests])
    await worker.stop()
    full = await cinema.client.channel.declare_queue(
        "test.full",
        exclusive=True,
        arguments={"x-max-length": 1, "x-overflow": "reject-publish"},
    )
    await full.bind(EVENTS, "reservation.#")
    for request in requests:
        await post(cinema.client, request)
    ended = await redrive(cinema, "--yes")
    assert (ended.code, "for 2 dead letters" in ended.errors) == (3, True)
    left = await all_of(cinema.client, 2)
    assert [json.loads(dead_letter.body) for dead_letter in left] == requests[1:]


async def test_dead_letters_that_come_back_at_once_are_not_sent_again(cinema: Cinema) -> None:
    await cinema.start_worker()
    unreadable: list[dict[str, Any]] = [{"number": number} for number in range(10)]
    for body in unreadable:
        await post(cinema.client, body, "unreadable_request")
    ended = await redrive(cinema, "--yes", page_size=1)
    assert (ended.code, ended.output.startswith("sent 10 back")) == (0, True)
    await cinema.client.consume_dead_letters()
    found = await cinema.client.dead_letters(10)
    assert sorted(dead_letter.content["number"] for dead_letter in found) == list(range(10))
