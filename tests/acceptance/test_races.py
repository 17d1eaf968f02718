"""Several workers at once: one outcome for each request, and no seat sold twice."""

from __future__ import annotations

import random
from typing import Any, Final

from tests.acceptance.cinema import Cinema, request_for, slots

SEATS: Final = 100
HOT_SLOTS: Final = 20
REQUESTS_FOR_EACH: Final = 1000
SEED: Final = 20261122


async def test_one_request_sent_50_times_at_once_is_one_booking(
    cinema: Cinema,
) -> None:
    movie = await cinema.show(*slots(100))
    request = request_for(movie, 3)
    await cinema.client.declare()
    await cinema.start_workers(3, BATCH_SIZE="4", PREFETCH="8")
    await cinema.client.publish_all([request] * 50)
    events = await cinema.client.all_events(request["requestId"], 50)
    await cinema.stop_workers()
    assert len({event.body for event in events}) == 1
    assert {event.properties["message_id"] for event in events} == {
        request["requestId"] + ":confirmed"
    }
    assert list(await cinema.ledger()) == [request["requestId"]]
    assert await cinema.movie(movie) == {
        "_id": movie,
        "version": 1,
        "timeSlots": [{"id": 1, "capacity": 100, "bookedCount": 3}],
    }


async def test_two_workers_fill_a_hot_slot_as_far_as_possible(cinema: Cinema) -> None:
    movies = [await cinema.show(*slots(SEATS)) for _ in range(HOT_SLOTS)]
    dice = random.Random(SEED)
    await cinema.start_workers(2, BATCH_SIZE="100")
    for movie in movies:
        rush = [request_for(movie, dice.randint(1, 4)) for _ in range(REQUESTS_FOR_EACH)]
        await cinema.client.publish_all(rush)
        outcomes = await cinema.client.outcomes([request["requestId"] for request in rush])
        await check_filled(cinema, movie, [event.content for event in outcomes.values()])


async def check_filled(cinema: Cinema, movie: str, outcomes: list[dict[str, Any]]) -> None:
    confirmed = [o["numberOfPeople"] for o in outcomes if o["outcome"] == "confirmed"]
    rejected = [o for o in outcomes if o["outcome"] == "rejected"]
    booked = (await cinema.movie(movie))["timeSlots"][0]["bookedCount"]
    assert sum(confirmed) == booked <= SEATS, f"seed {SEED}"
    assert {o["reason"] for o in rejected} == {"sold_out"}
    assert min(o["numberOfPeople"] for o in rejected) > SEATS - booked, f"seed {SEED}"
