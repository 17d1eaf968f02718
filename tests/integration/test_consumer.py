"""Consuming from a real broker: in order, settled once, and not lost with a session."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from contracts.topology import REQUESTS
from tests.acceptance.client import Client
from tests.conftest import Servers
from worker.broker.messages import POISON_FAILURES, Delivery
from worker.broker.session import Session
from worker.devtools.servers.process import poll

DEADLINE_SECONDS: Final = 10

Opening = Callable[[], Awaitable[Session]]


async def collected(session: Session, number: int) -> list[Delivery]:
    """The next ``number`` deliveries, in however many batches they arrive."""
    found: list[Delivery] = []
    async with asyncio.timeout(DEADLINE_SECONDS):
        while len(found) < number:
            found += await session.consumer.collect(number - len(found))
    return found


async def test_deliveries_are_collected_in_order_and_within_the_limit(
    session: Session, client: Client
) -> None:
    await client.publish_all([{"number": number} for number in range(10)])
    found = await collected(session, 10)
    assert [delivery.body for delivery in found] == [b'{"number": %d}' % n for n in range(10)]
    assert [delivery.tag for delivery in found] == list(range(1, 11))
    await client.publish_all([{}] * 3)
    await collected(session, 1)
    assert len(await session.consumer.collect(1)) == 1


async def test_a_delivery_holds_only_what_the_contract_honours(
    session: Session, client: Client
) -> None:
    trace = {"traceparent": "00-1-2-01", "tracestate": "a=b"}
    await client.publish(
        {"movieId": "heat"},
        headers={**trace, "x-other": "1"},
        correlation_id="c",
        reply_to="r",
        content_type="t",
        content_encoding="e",
        message_id="m",
        priority=1,
    )
    (delivery,) = await collected(session, 1)
    assert delivery == Delivery(
        tag=1,
        body=b'{"movieId": "heat"}',
        routing_key="heat",
        content_type="t",
        content_encoding="e",
        correlation_id="c",
        reply_to="r",
        trace_context=trace,
    )


async def test_a_trace_that_is_not_text_or_too_long_is_dropped(
    session: Session, client: Client
) -> None:
    await client.publish({}, headers={"traceparent": 5, "tracestate": "x" * 5000})
    (delivery,) = await collected(session, 1)
    assert not delivery.trace_context


async def test_a_failure_count_from_the_publisher_is_ignored(
    session: Session, client: Client
) -> None:
    await client.publish({}, headers={"x-delivery-count": 10**6})
    (delivery,) = await collected(session, 1)
    assert delivery.failures == 0
    await session.consumer.settle([delivery], failed=[delivery])
    (again,) = await collected(session, 1)
    assert again.failures == 1


async def test_settled_deliveries_are_gone_and_failed_ones_come_again(
    open_session: Opening, client: Client
) -> None:
    first = await open_session()
    await client.publish_all([{"number": number} for number in range(6)])
    deliveries = await collected(first, 6)
    await first.consumer.settle(deliveries[:4], failed=[deliveries[1], deliveries[3]])
    again = await collected(first, 2)
    assert [delivery.body for delivery in again] == [b'{"number": 1}', b'{"number": 3}']
    assert [delivery.failures for delivery in again] == [1, 1]
    await first.consumer.settle(deliveries[4:], failed=[])
    await first.consumer.settle(again, failed=[])
    await first.close()
    assert await client.depth(REQUESTS) == 0


async def test_a_batch_that_failed_whole_settles_nothing_else(
    open_session: Opening, client: Client
) -> None:
    first = await open_session()
    await client.publish_all([{"number": number} for number in range(3)])
    deliveries = await collected(first, 3)
    await first.consumer.settle(deliveries[:2], failed=deliveries[:2])
    await first.close()
    assert await client.depth(REQUESTS) == 3


async def test_what_is_handed_back_goes_to_another_session(
    open_session: Opening, client: Client
) -> None:
    first = await open_session()
    await client.publish_all([{"number": number} for number in range(5)])
    deliveries = await collected(first, 5)
    await first.consumer.settle(deliveries[:2], failed=[])
    await first.consumer.stop()
    assert await first.consumer.collect(5) == []
    second = await open_session()
    assert await first.consumer.hand_back() == 3
    again = await collected(second, 3)
    assert {delivery.body for delivery in again} == {delivery.body for delivery in deliveries[2:]}
    assert await first.consumer.hand_back() == 0


async def test_a_stop_ends_the_wait_for_a_delivery(session: Session) -> None:
    collecting = asyncio.create_task(session.consumer.collect(5))
    await session.consumer.stop()
    await session.consumer.stop()
    assert await asyncio.wait_for(collecting, DEADLINE_SECONDS) == []


async def test_what_a_lost_session_left_unsettled_comes_again(
    open_session: Opening, client: Client
) -> None:
    first = await open_session()
    await client.publish_all([{"number": number} for number in range(3)])
    deliveries = await collected(first, 3)
    await first.consumer.settle(deliveries[:1], failed=[])
    await first.close()
    again = await collected(await open_session(), 2)
    assert [delivery.body for delivery in again] == [b'{"number": 1}', b'{"number": 2}']


async def test_a_delivery_that_failed_often_is_a_batch_of_its_own(
    open_session: Opening, client: Client
) -> None:
    session = await open_session()
    await client.publish({"number": 0})
    for _ in range(POISON_FAILURES):
        (failing,) = await collected(session, 1)
        await session.consumer.settle([failing], failed=[failing])
    await client.publish_all([{"number": number} for number in (1, 2)])
    (poison,) = await session.consumer.collect(10)
    assert (poison.failures, poison.may_be_poison) == (POISON_FAILURES, True)
    assert all(not delivery.may_be_poison for delivery in await collected(session, 2))


async def begun_slowly(servers: Servers) -> Session:
    return await Session.open(servers.amqp_url, 100)


async def test_a_slow_start_lasts_until_a_harmless_request_is_settled(
    servers: Servers, client: Client
) -> None:
    await client.publish_all([{"number": number} for number in range(10)])
    session = await begun_slowly(servers)
    first = await collected(session, 1)
    assert await client.depth(REQUESTS) == 9
    await session.consumer.settle(first, failed=[])
    assert len(await collected(session, 9)) == 9
    assert session.consumer.unsettled == 9
    await session.close()


async def test_a_slow_start_holds_nothing_beside_possible_poison(
    servers: Servers, client: Client, session: Session
) -> None:
    await client.publish({"number": 0})
    for _ in range(POISON_FAILURES):
        (failing,) = await collected(session, 1)
        await session.consumer.settle([failing], failed=[failing])
    (failing,) = await collected(session, 1)
    await client.publish_all([{"number": number} for number in (1, 2)])
    await collected(session, 2)
    await session.close()
    slow_start = await begun_slowly(servers)
    (poison,) = await collected(slow_start, 1)
    assert (poison.may_be_poison, await client.depth(REQUESTS)) == (True, 2)
    await slow_start.consumer.settle([poison], failed=[])
    (harmless,) = await collected(slow_start, 1)
    assert (harmless.may_be_poison, await client.depth(REQUESTS)) == (False, 1)
    await slow_start.close()


async def test_a_stop_during_a_slow_start_collects_nothing_more(
    servers: Servers, client: Client
) -> None:
    await client.publish_all([{"number": number} for number in range(3)])
    session = await begun_slowly(servers)
    first = await collected(session, 1)
    await asyncio.gather(session.consumer.settle(first, failed=[]), session.consumer.stop())
    assert await session.consumer.collect(1) == []
    await session.consumer.hand_back()
    await session.close()

    async def two_are_back() -> bool:
        return await client.depth(REQUESTS) == 2

    # RabbitMQ counts what was handed back only a moment after its answer.
    await poll(two_are_back, DEADLINE_SECONDS)
