"""What happens to a batch, in which order, and what does not happen when something fails."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.unit.fakes import VirtualTime
from tests.unit.world import Gate, World, delivery, everything_else, finished
from worker.broker.messages import Delivery
from worker.errors import SessionLost, StoreUnusable
from worker.service.pipeline import REFUSED_PUBLISH_SECONDS

pytestmark = pytest.mark.usefixtures("virtual_time")


async def test_a_batch_is_committed_then_published_then_settled() -> None:
    world = World([[delivery(1), delivery(2)]])
    await finished(world.run())
    assert [line for line in world.diary if not line.startswith("collected")] == [
        "committed",
        "published 2",
        "settled 1 2",
    ]
    assert world.failed == []


async def test_a_request_is_not_settled_before_its_event_is_confirmed() -> None:
    confirming = Gate()
    world = World([[delivery(1)]], publish_gates=[confirming])
    running = asyncio.create_task(world.run())
    await confirming.reach()
    assert world.store.ledger
    assert world.settled == []
    confirming.opened.set()
    await finished(running)
    assert world.settled == [1]


async def test_a_batch_is_committed_while_the_last_one_is_announced() -> None:
    confirming, committing = Gate(), Gate()
    world = World(
        [[delivery(1)], [delivery(2)]],
        publish_gates=[confirming],
        commit_gates=[Gate(opened=True), committing],
    )
    running = asyncio.create_task(world.run())
    await confirming.reach()
    await committing.reach()
    committing.opened.set()
    confirming.opened.set()
    await finished(running)
    assert world.settled == [1, 2]


async def test_batches_keep_their_order_though_the_first_one_is_slow() -> None:
    confirming = Gate()
    world = World([[delivery(n)] for n in range(1, 5)], publish_gates=[confirming])
    running = asyncio.create_task(world.run())
    await confirming.reach()
    await world.until("committed", 2)
    assert world.settled == []
    confirming.opened.set()
    await finished(running)
    assert world.settled == [1, 2, 3, 4]
    published = [json.loads(message.body)["requestId"] for message in world.published]
    assert published == ["r1", "r2", "r3", "r4"]


async def test_each_delivery_is_settled_once_whatever_its_answer() -> None:
    deliveries = [
        delivery(1),
        delivery(2, "r1"),
        delivery(3, "r1", numberOfPeople=2),
        delivery(4, numberOfPeople=0),
        Delivery(tag=5, body=b"nonsense"),
        delivery(6, movieId="jaws"),
    ]
    world = World([deliveries])
    pipeline = await finished(world.run())
    assert world.settled == [1, 2, 3, 4, 5, 6]
    assert [m.headers.get("x-reservation-error") for m in world.published] == [
        None,
        None,
        "request_id_reused",
        None,
        "invalid_request",
        "unreadable_request",
        None,
    ]
    assert pipeline.answered == {
        "confirmed": 2,
        "request_id_reused": 1,
        "invalid_request": 1,
        "unreadable_request": 1,
        "unknown_movie": 1,
    }


async def test_what_cannot_be_read_touches_no_store() -> None:
    world = World([[Delivery(tag=1, body=b"nonsense")]])
    world.store.always = StoreUnusable()
    await finished(world.run())
    assert world.settled == [1]


async def test_only_the_refused_event_is_published_again() -> None:
    world = World([[delivery(1), delivery(2), delivery(3)]])
    await finished(world.run())
    world.refusals = {world.published[1].body: 2}
    repeated = world.published[1]
    world.published.clear()
    world.batches = [[delivery(1), delivery(2), delivery(3)]]
    await finished(world.run())
    assert world.published[3:] == [repeated, repeated]
    assert world.failed == []


async def test_an_event_refused_for_too_long_fails_its_own_delivery(
    virtual_time: VirtualTime,
) -> None:
    world = World([[delivery(1), delivery(2), delivery(3)]])
    await finished(world.run())
    world.refusals = {world.published[1].body: 10**9}
    world.batches, world.settled = [[delivery(1), delivery(2), delivery(3)]], []
    await finished(world.run())
    assert (world.settled, world.failed) == ([1, 2, 3], [2])
    assert virtual_time.now_seconds >= REFUSED_PUBLISH_SECONDS


async def test_a_refused_dead_letter_fails_its_delivery_too() -> None:
    dead_letter = delivery(1, numberOfPeople=0)
    world = World([[dead_letter, delivery(2)]], refusals={dead_letter.body: 10**9})
    await finished(world.run())
    assert world.failed == [1]


async def test_a_lost_session_settles_nothing() -> None:
    world = World([[delivery(1)], [delivery(2)]], publish_error=SessionLost("gone"))
    with pytest.RaisesGroup(pytest.RaisesExc(SessionLost, match="gone"), flatten_subgroups=True):
        await finished(world.run())
    assert world.settled == []


async def test_cancelled_while_announcing_it_settles_nothing() -> None:
    confirming = Gate()
    world = World([[delivery(1)]], publish_gates=[confirming])
    running = asyncio.create_task(world.run())
    await confirming.reach()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await finished(running)
    assert (world.settled, world.published) == ([], [])


async def test_cancelled_while_committing_it_publishes_nothing() -> None:
    committing = Gate()
    world = World([[delivery(1)]], commit_gates=[committing])
    running = asyncio.create_task(world.run())
    await committing.reach()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await finished(running)
    assert (world.settled, world.published) == ([], [])


async def test_what_is_recorded_is_announced_though_mongodb_is_away() -> None:
    confirming, committing = Gate(), Gate()
    world = World(
        [[delivery(1)], [delivery(2)]],
        publish_gates=[confirming],
        commit_gates=[Gate(opened=True), committing],
        is_stopping=True,
    )
    running = asyncio.create_task(world.run())
    await confirming.reach()
    await committing.reach()
    world.store.always = StoreUnusable("away")
    committing.opened.set()
    await everything_else()
    confirming.opened.set()
    with pytest.RaisesGroup(pytest.RaisesExc(StoreUnusable, match="away"), flatten_subgroups=True):
        await finished(running)
    assert world.settled == [1]


async def test_when_the_consumer_stops_what_is_under_way_is_finished() -> None:
    confirming = Gate()
    world = World([[delivery(1)]], publish_gates=[confirming])
    running = asyncio.create_task(world.run())
    await confirming.reach()
    await world.until("collected ")
    confirming.opened.set()
    await finished(running)
    assert world.settled == [1]


async def test_a_batch_that_comes_again_books_nothing() -> None:
    world = World([[delivery(1), delivery(2)]])
    await finished(world.run())
    first, world.published = world.published, []
    world.batches = [[delivery(1), delivery(2)]]
    await finished(world.run())
    assert world.published == first
    assert world.booked() == 2
