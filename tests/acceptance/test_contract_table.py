"""What each input gets: the contract's table, row by row, through a real broker and process."""

from __future__ import annotations

import base64
import json
import secrets
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest

from tests.acceptance.cinema import Cinema, request_for, slots

TRACE: Final = {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}


@pytest.fixture(scope="module")
async def at_work(shared_cinema: Cinema) -> Cinema:
    """A cinema with one worker for the whole module."""
    await shared_cinema.start_worker()
    return shared_cinema


def encoded(request: dict[str, Any]) -> bytes:
    return json.dumps(request).encode()


async def test_a_new_request_that_fits_is_confirmed_once(
    at_work: Cinema,
) -> None:
    movie = await at_work.show(*slots(10, 5))
    request = request_for(movie, 4, slot=2)
    await at_work.client.publish(request)
    outcome = await at_work.client.outcome(request["requestId"])
    decided_at = outcome.pop("decidedAt")
    assert outcome == {
        **request,
        "outcome": "confirmed",
        "movieVersion": 1,
        "seatsAvailable": 1,
    }
    entry = (await at_work.ledger())[request["requestId"]]
    assert entry.pop("decidedAt") == datetime.fromisoformat(decided_at)
    assert {"requestId": entry.pop("_id"), **entry} == outcome
    assert await at_work.movie(movie) == {
        "_id": movie,
        "version": 1,
        "timeSlots": [
            {"id": 1, "capacity": 10, "bookedCount": 0},
            {"id": 2, "capacity": 5, "bookedCount": 4},
        ],
    }


@pytest.mark.parametrize(
    ("reason", "changes"),
    [
        ("unknown_movie", {"movieId": "no-such-movie"}),
        ("unknown_time_slot", {"timeSlotId": 99}),
        ("expired", {"expiresAt": (datetime.now(UTC) - timedelta(seconds=5)).isoformat()}),
        ("sold_out", {"numberOfPeople": 11}),
    ],
)
async def test_a_request_that_cannot_be_met_is_rejected_with_a_reason(
    at_work: Cinema, reason: str, changes: dict[str, Any]
) -> None:
    movie = await at_work.show(*slots(10))
    request = {**request_for(movie, 1), **changes}
    await at_work.client.publish(request)
    outcome = await at_work.client.outcome(request["requestId"])
    assert (outcome["outcome"], outcome["reason"]) == ("rejected", reason)
    assert ("movieVersion" in outcome) == (reason != "unknown_movie")
    assert ("seatsAvailable" in outcome) == (reason in {"expired", "sold_out"})
    assert (await at_work.ledger([request["requestId"]]))[request["requestId"]]["reason"] == reason
    assert not [
        dead_letter
        for dead_letter in at_work.client.received_dead_letters
        if dead_letter.body == encoded(request)
    ]
    assert (await at_work.movie(movie))["version"] == 0


async def test_the_same_request_again_gets_the_recorded_outcome_again(at_work: Cinema) -> None:
    movie = await at_work.show(*slots(2))
    request = request_for(movie, 2)
    await at_work.client.publish(request)
    await at_work.client.outcome(request["requestId"])
    await at_work.client.publish({**request, "expiresAt": "2001-01-01T00:00:00Z", "note": "again"})
    await at_work.client.publish(request)
    events = await at_work.client.all_events(request["requestId"], 3)
    assert len({event.body for event in events}) == 1
    assert (await at_work.movie(movie))["timeSlots"][0]["bookedCount"] == 2


async def test_a_rejection_stands_though_there_is_room_by_now(at_work: Cinema) -> None:
    movie = await at_work.show(*slots(1))
    request = request_for(movie, 2)
    await at_work.client.publish(request)
    assert (await at_work.client.outcome(request["requestId"]))["reason"] == "sold_out"
    await at_work.database.movies.update_one(
        {"_id": movie}, {"$set": {"timeSlots.0.capacity": 10}, "$inc": {"version": 1}}
    )
    await at_work.client.publish(request)
    first, second = await at_work.client.all_events(request["requestId"], 2)
    assert first.body == second.body


@pytest.mark.parametrize("change", [{"numberOfPeople": 2}, {"timeSlotId": 2}, {"movieId": "x"}])
async def test_a_request_id_with_other_content_is_dead_lettered(
    at_work: Cinema, change: dict[str, Any]
) -> None:
    request = request_for(await at_work.show(*slots(10, 10)))
    await at_work.client.publish(request)
    await at_work.client.outcome(request["requestId"])
    other = {**request, **change}
    await at_work.client.publish(other)
    (dead_letter,) = await at_work.client.dead_letters(1, of=encoded(other))
    assert dead_letter.error == "request_id_reused"
    assert request["requestId"] in dead_letter.headers["x-reservation-error-detail"]
    assert len(at_work.client.events[request["requestId"]]) == 1


@pytest.mark.parametrize("valid_first", [True, False])
async def test_valid_and_invalid_with_one_id_are_other_content(
    at_work: Cinema, valid_first: bool
) -> None:
    request = request_for(await at_work.show(*slots(10)))
    invalid = {**request, "numberOfPeople": 0}
    first, second = (request, invalid) if valid_first else (invalid, request)
    await at_work.client.publish(first)
    await at_work.client.outcome(request["requestId"])
    await at_work.client.publish(second)
    (dead_letter,) = await at_work.client.dead_letters(1, of=encoded(second))
    assert dead_letter.error == "request_id_reused"
    assert len(at_work.client.events[request["requestId"]]) == 1


async def test_an_invalid_request_is_rejected_and_dead_lettered(at_work: Cinema) -> None:
    request = {**request_for("heat"), "numberOfPeople": "two", "timeSlotId": True}
    await at_work.client.publish(request, headers={**TRACE, "x-mine": "1"}, content_type="text/x")
    name = request["requestId"]
    event = (await at_work.client.outcomes([name]))[name]
    assert event.routing_key == "reservation.rejected.heat"
    outcome = event.content
    assert outcome.pop("decidedAt")
    assert {error["field"] for error in outcome.pop("errors")} == {"numberOfPeople", "timeSlotId"}
    assert outcome == {
        "requestId": name,
        "movieId": "heat",
        "outcome": "rejected",
        "reason": "invalid_request",
    }
    (dead_letter,) = await at_work.client.dead_letters(1, of=encoded(request))
    detail = dead_letter.headers["x-reservation-error-detail"]
    assert dead_letter.headers == {
        **TRACE,
        "x-reservation-error": "invalid_request",
        "x-reservation-error-detail": detail,
    }
    assert "numberOfPeople" in detail
    assert dead_letter.properties["content_type"] == "text/x"
    assert (await at_work.ledger([name]))[name]["reason"] == "invalid_request"


async def test_an_invalid_request_again_is_answered_again_in_both_ways(at_work: Cinema) -> None:
    request = {**request_for("heat"), "movieId": "in valid"}
    await at_work.client.publish(request)
    await at_work.client.publish(request)
    first, second = await at_work.client.all_events(request["requestId"], 2)
    assert first.body == second.body
    assert first.routing_key == "reservation.rejected.invalid"
    assert first.headers["ce-subject"] == "invalid"
    await at_work.client.dead_letters(2, of=encoded(request))


@pytest.mark.parametrize(
    "start",
    [b"not JSON ", b'{"requestId": null, "x": "', b'["', b'"', b'{"x": "', b"\xff", b" " * 65_536],
    ids=["no JSON", "null id", "array", "string", "no id", "no UTF-8", "too large"],
)
async def test_a_body_that_names_no_request_is_dead_lettered(at_work: Cinema, start: bytes) -> None:
    ends = {b'["': b'"]', b'"': b'"', b'{"x": "': b'"}', b'{"requestId": null, "x": "': b'"}'}
    body = start + secrets.token_hex(8).encode() + ends.get(start, b"")
    address = await at_work.client.reply_queue()
    await at_work.client.publish(
        body, content_type="text/x", content_encoding="y", correlation_id="c", reply_to=address
    )
    (dead_letter,) = await at_work.client.dead_letters(1, of=body)
    assert dead_letter.error == "unreadable_request"
    assert dead_letter.headers["x-reservation-error-detail"]
    kept = {"content_type": "text/x", "content_encoding": "y", "correlation_id": "c"}
    assert (
        dead_letter.properties.items() >= {**kept, "reply_to": address, "delivery_mode": 2}.items()
    )


async def test_a_cloud_event_is_taken_in_each_of_its_forms(at_work: Cinema) -> None:
    movie = await at_work.show(*slots(10))
    plain, data, packed = (request_for(movie) for _ in range(3))
    client, structured = at_work.client, "application/cloudevents+json; charset=utf-8"
    await client.publish(plain, headers={"ce-specversion": "1.0", "ce-id": "x", "ce-type": "y"})
    await client.publish({"specversion": "1.0", "data": data}, content_type=structured)
    text = base64.b64encode(encoded(packed)).decode()
    await client.publish({"specversion": "1.0", "data_base64": text}, content_type=structured)
    events = await client.outcomes([request["requestId"] for request in (plain, data, packed)])
    assert {event.content["outcome"] for event in events.values()} == {"confirmed"}
