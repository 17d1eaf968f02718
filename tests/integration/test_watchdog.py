"""A session that exists but does nothing is ended; one that has nothing to do is not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Final
from urllib.parse import urlsplit

import pytest
from aio_pika.abc import AbstractIncomingMessage

from contracts.topology import REQUESTS
from tests.acceptance.client import Client
from tests.conftest import Servers
from tests.faults.broker_faults import SHUT_CHANNELS, memory_alarm_of
from tests.faults.proxy import Proxy
from worker.broker import watchdog
from worker.broker.messages import Message
from worker.broker.session import Session
from worker.errors import BrokerUnusable, SessionLost

DEADLINE_SECONDS: Final = 15
"""What is promised; with the intervals of these tests it takes much less."""
CHECKS: Final = 5
"""More than the watchdog needs to end a session."""
SILENT_CHECKS: Final = 40
"""Long enough for two heartbeats to be due."""


@pytest.fixture(autouse=True)
def _checks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "CHECK_SECONDS", 0.1)
    monkeypatch.setattr(watchdog, "ANSWER_TIMEOUT_SECONDS", 1)


@pytest.fixture
async def wire(servers: Servers) -> AsyncIterator[Proxy]:
    """A route to RabbitMQ that can be blackholed."""

    async def port() -> int:
        return urlsplit(servers.amqp_url).port or 5672

    async with Proxy(port).opened() as proxy:
        yield proxy


async def watched(session: Session) -> None:
    await asyncio.wait_for(session.watch(), DEADLINE_SECONDS)


async def checks(session: Session, number: int) -> None:
    """Let the watchdog make so many checks; raises what it raises."""
    enough = asyncio.Event()
    count = 0
    query = session._watchdog._query

    async def counted() -> watchdog.QueueStatus:
        nonlocal count
        status = await query()
        count += 1
        if count >= number:
            enough.set()
        return status

    # The real query still runs; only its calls are counted.
    session._watchdog._query = counted  # type: ignore[method-assign]
    watching = asyncio.create_task(session.watch())
    reached = asyncio.create_task(enough.wait())
    await asyncio.wait({watching, reached}, return_when=asyncio.FIRST_COMPLETED)
    reached.cancel()
    if watching.done():
        await watching
    watching.cancel()
    with suppress(asyncio.CancelledError):
        await watching


async def test_a_channel_that_the_broker_lost_ends_the_session(
    session: Session, servers: Servers
) -> None:
    if servers.embedded is None:
        pytest.skip("the broker is not ours to break")
    await servers.embedded.rabbit.ctl("eval", SHUT_CHANNELS)
    with pytest.raises(SessionLost):
        await watched(session)


@pytest.fixture
def wired_url(client: Client, servers: Servers, wire: Proxy) -> str:
    """RabbitMQ through the wire, with frequent heartbeats."""
    assert client
    here = urlsplit(servers.amqp_url)
    there = here.netloc.replace(f":{here.port}", f":{wire.port}")
    return here._replace(netloc=there, query="heartbeat=2").geturl()


async def test_a_broker_that_does_not_answer_ends_the_session(wired_url: str, wire: Proxy) -> None:
    session = await Session.open(wired_url, 10)
    wire.blackhole()
    with pytest.raises(SessionLost):
        await watched(session)
    await session.close()


async def test_silence_on_the_publishing_connection_ends_the_session(
    wired_url: str, wire: Proxy
) -> None:
    session = await Session.open(wired_url, 10)
    wire.blackhole_newest()
    with pytest.raises(SessionLost, match="silent"):
        await watched(session)
    await session.close()


async def test_a_broker_under_an_alarm_does_not_count_as_silent(
    wired_url: str, servers: Servers
) -> None:
    if servers.embedded is None:
        pytest.skip("the broker is not ours to put under an alarm")
    session = await Session.open(wired_url, 10)
    event = Message(exchange="", routing_key=REQUESTS, body=b"{}", headers={}, mandatory=False)
    async with memory_alarm_of(servers.embedded.rabbit):
        publishing = asyncio.create_task(session.publish([event]))
        await checks(session, SILENT_CHECKS)
        assert not publishing.done()
    assert await publishing == [True]
    await session.close()


async def test_no_session_is_reopened_while_an_alarm_blocks_publishers(servers: Servers) -> None:
    if servers.embedded is None:
        pytest.skip("the broker is not ours to put under an alarm")
    async with memory_alarm_of(servers.embedded.rabbit):
        with pytest.raises(BrokerUnusable, match="alarm"):
            await Session.open(servers.amqp_url, 10, may_be_blocked=False)


async def forget_consumer(session: Session) -> None:
    """Act as if the broker had lost the consumer without notice."""
    await session.consumer._channel.basic_cancel(session.consumer._consumer_tag)


async def test_a_consumer_that_the_broker_forgot_ends_the_session(
    session: Session,
) -> None:
    await forget_consumer(session)
    with pytest.raises(SessionLost, match="no consumer"):
        await watched(session)


async def test_requests_that_are_not_delivered_end_the_session(
    session: Session, client: Client
) -> None:
    await forget_consumer(session)
    await client.channel.set_qos(prefetch_count=1)
    busy = await client.channel.get_queue(REQUESTS)
    is_held = asyncio.Event()

    async def hold(_message: AbstractIncomingMessage) -> None:
        is_held.set()

    await busy.consume(hold)
    await client.publish_all([{"number": number} for number in range(3)])
    await is_held.wait()
    with pytest.raises(SessionLost, match="2 requests wait"):
        await watched(session)


async def test_an_idle_session_goes_on(session: Session) -> None:
    await checks(session, CHECKS)


async def test_a_session_with_a_full_prefetch_goes_on(client: Client, servers: Servers) -> None:
    session = await Session.open(servers.amqp_url, 2, slow_start=False)
    await client.publish_all([{"number": number} for number in range(5)])
    assert await session.consumer.collect(1)
    await checks(session, CHECKS)
    await session.close()


async def test_a_stopping_session_goes_on(session: Session, client: Client) -> None:
    await session.consumer.stop()
    await client.publish({})
    await checks(session, CHECKS)


async def test_deliveries_can_be_handed_back_whenever_watching_ends(
    session: Session, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchdog, "CHECK_SECONDS", 0)
    await client.publish({})
    await session.consumer.collect(1)
    for ticks in range(20):
        watching = asyncio.create_task(session.watch())
        for _ in range(ticks):
            await asyncio.sleep(0)
        watching.cancel()
        await asyncio.wait({watching})
    await session.consumer.stop()
    assert await session.consumer.hand_back() == 1
