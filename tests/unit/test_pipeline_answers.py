"""How deliveries are read and their answers counted, and how refused events are sent again."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from contracts import UnreadableRequest
from tests.unit.fakes import VirtualTime
from tests.unit.world import World, delivery
from worker.broker.messages import ATTEMPTS_MAX, Delivery
from worker.service.announcement import announcement
from worker.service.pipeline import REFUSED_PUBLISH_WAIT_SECONDS


async def test_a_structured_cloud_event_is_read_by_its_content_type() -> None:
    data = json.loads(delivery(1).body)
    envelope = {"specversion": "1.0", "id": "1", "source": "/shop", "type": "x", "data": data}
    event = Delivery(
        tag=1, body=json.dumps(envelope).encode(), content_type="application/cloudevents+json"
    )
    pipeline = await World([[event]]).run()
    assert pipeline.answered == {"confirmed": 1}


async def test_answers_are_counted_over_all_batches() -> None:
    pipeline = await World([[delivery(1), delivery(2)], [delivery(3)]]).run()
    assert pipeline.answered == {"confirmed": 3}


@pytest.mark.usefixtures("virtual_time")
async def test_what_the_broker_refuses_to_the_end_is_not_counted() -> None:
    world = World([[delivery(1), delivery(2)]])
    await world.run()
    world.refusals = {world.published[0].body: 10**9}
    world.batches = [[delivery(1), delivery(2)]]
    pipeline = await world.run()
    assert pipeline.answered == {"confirmed": 1}


async def test_nothing_is_waited_for_while_nothing_fails(virtual_time: VirtualTime) -> None:
    await World([[delivery(1)], [delivery(2)]]).run()
    assert virtual_time.slept_seconds == []


async def test_refused_events_are_sent_again_within_two_seconds(
    virtual_time: VirtualTime,
) -> None:
    invalid = delivery(1, numberOfPeople=0)
    first_waits = []
    for _ in range(10):
        virtual_time.slept_seconds.clear()
        await World([[invalid]], refusals={invalid.body: 10**9}).run()
        first_waits.append(virtual_time.slept_seconds[0])
        assert max(virtual_time.slept_seconds) <= REFUSED_PUBLISH_WAIT_SECONDS
    assert max(first_waits) <= 0.05


async def test_a_dead_letter_says_how_often_it_was_delivered() -> None:
    world = World([[replace(delivery(1), failures=ATTEMPTS_MAX)]])
    await world.run()
    (dead_letter,) = world.published
    detail = dead_letter.headers["x-reservation-error-detail"]
    assert detail.startswith(f"delivered {ATTEMPTS_MAX} times")


def test_the_detail_of_a_dead_letter_has_1000_characters_at_most() -> None:
    (dead_letter,) = announcement(delivery(1), UnreadableRequest("x" * 1001))
    assert dead_letter.headers["x-reservation-error-detail"] == "x" * 1000
