"""A delivery that keeps failing: its recorded outcome is published, then it is dead-lettered."""

from __future__ import annotations

from dataclasses import replace

from contracts import topology
from tests.unit.values import ask
from tests.unit.world import World, delivery
from worker.broker.messages import ATTEMPTS_MAX, POISON_FAILURES


async def test_an_exhausted_delivery_is_dead_lettered_untried() -> None:
    world = World([[replace(delivery(1), failures=ATTEMPTS_MAX)]])
    await world.run()
    (dead_letter,) = world.published
    assert dead_letter.exchange == topology.DEAD_LETTERS
    assert dead_letter.headers["x-reservation-error"] == "undeliverable"
    assert (world.store.tried, world.settled, world.failed) == ([], [1], [])


async def test_only_the_exhausted_delivery_of_a_batch_is_given_up() -> None:
    exhausted = replace(delivery(2), failures=ATTEMPTS_MAX)
    unreadable = replace(delivery(4), body=b"junk", failures=ATTEMPTS_MAX)
    world = World([[delivery(1), exhausted, delivery(3), unreadable]])
    pipeline = await world.run()
    assert world.store.tried == [["r1", "r3"]]
    assert world.settled == [1, 2, 3, 4]
    errors = [message.headers.get("x-reservation-error") for message in world.published]
    assert errors == [None, "undeliverable", None, "unreadable_request"]
    assert pipeline.answered == {"confirmed": 2, "undeliverable": 1, "unreadable_request": 1}


async def test_its_outcome_is_published_before_the_dead_letter() -> None:
    world = World([[delivery(1)], [replace(delivery(2, "r1"), failures=ATTEMPTS_MAX)]])
    await world.run()
    event, again, dead_letter = world.published
    assert again.body == event.body
    assert (again.exchange, dead_letter.exchange) == (topology.EVENTS, topology.DEAD_LETTERS)


async def test_with_the_id_of_another_request_it_is_called_reused() -> None:
    """A request for six seats must not get the outcome of one for two."""
    other = replace(
        delivery(2),
        body=ask("r1", people=6).to_json(),
        reply_to="somebody-else",
        failures=ATTEMPTS_MAX,
    )
    world = World([[delivery(1)], [other]])
    await world.run()
    event, dead_letter = world.published
    assert event.exchange == topology.EVENTS
    assert dead_letter.headers["x-reservation-error"] == "request_id_reused"


async def test_an_exhausted_delivery_of_junk_is_called_unreadable() -> None:
    exhausted = replace(delivery(1), body=b"junk", failures=ATTEMPTS_MAX)
    world = World([[exhausted]])
    await world.run()
    assert world.published[0].headers["x-reservation-error"] == "unreadable_request"


async def test_what_may_be_poison_is_still_tried() -> None:
    world = World([[replace(delivery(1), failures=POISON_FAILURES)]])
    await world.run()
    assert world.store.tried == [["r1"]]


async def test_a_reply_that_cannot_be_sent_fails_no_event() -> None:
    world = World([[replace(delivery(1), reply_to="shop")]])
    await world.run()
    event, reply = world.published
    assert (event.exchange, reply.exchange, reply.routing_key) == (topology.EVENTS, "", "shop")
    assert (world.settled, world.failed) == ([1], [])
