"""The topology on a real broker: what is missing is created, what differs is reported and kept."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel, AbstractConnection

from contracts import topology
from tests.acceptance.client import DEAD_LETTERS, EVENTS, REQUESTS, UNROUTED, Client, wipe
from tests.conftest import Servers
from worker.broker.topology import declare_topology
from worker.errors import TopologyDiffers


@pytest.fixture
async def connection(servers: Servers) -> AsyncIterator[AbstractConnection]:
    """A connection to a broker on which nothing of the contract exists."""
    await wipe(servers.amqp_url)
    async with await aio_pika.connect(servers.amqp_url) as opened:
        yield opened


@pytest.fixture
async def channel(connection: AbstractConnection) -> AbstractChannel:
    return await connection.channel()


async def publish(channel: AbstractChannel, exchange: str, key: str, body: bytes = b"{}") -> None:
    target = await channel.get_exchange(exchange, ensure=False)
    await target.publish(aio_pika.Message(body), key)


async def consume_one(channel: AbstractChannel, queue: str) -> bytes:
    """The next message of a queue, once it has arrived."""
    async with (await channel.get_queue(queue, ensure=False)).iterator(timeout=10) as messages:
        async for message in messages:
            await message.ack()
            return message.body
    raise AssertionError("unreachable: the iterator waits or raises")


async def test_what_is_declared_is_what_the_contract_says(
    connection: AbstractConnection, servers: Servers
) -> None:
    await declare_topology(connection)
    # The client declares its own copy of the contract, and any difference would be refused.
    await (await Client.open(servers.amqp_url)).close()


async def test_a_worker_accepts_what_a_publisher_declared(
    connection: AbstractConnection, servers: Servers
) -> None:
    await (await Client.open(servers.amqp_url)).close()
    await declare_topology(connection)
    await declare_topology(connection)


@pytest.mark.parametrize("key", ["665f1c2ab4e0a1d2c3b4a596", "a.b.c", ""])
async def test_a_request_reaches_its_queue_whatever_its_routing_key(
    connection: AbstractConnection, channel: AbstractChannel, key: str
) -> None:
    await declare_topology(connection)
    await publish(channel, REQUESTS, key)
    assert await consume_one(channel, REQUESTS) == b"{}"


async def test_only_an_event_without_a_subscriber_is_kept(
    connection: AbstractConnection, channel: AbstractChannel
) -> None:
    await declare_topology(connection)
    await publish(channel, EVENTS, "reservation.confirmed.heat", b"unrouted")
    subscriber = await channel.declare_queue(exclusive=True)
    await subscriber.bind(EVENTS, "reservation.confirmed.*")
    await publish(channel, EVENTS, "reservation.confirmed.heat", b"routed")
    assert await consume_one(channel, subscriber.name) == b"routed"
    assert await consume_one(channel, UNROUTED) == b"unrouted"


async def test_a_dead_letter_reaches_its_queue(
    connection: AbstractConnection, channel: AbstractChannel
) -> None:
    await declare_topology(connection)
    await publish(channel, DEAD_LETTERS, "any key")
    assert await consume_one(channel, DEAD_LETTERS) == b"{}"


async def test_a_request_that_fails_21_times_is_dead_lettered(
    connection: AbstractConnection, channel: AbstractChannel
) -> None:
    await declare_topology(connection)
    await publish(channel, REQUESTS, "heat", b"stubborn")
    deliveries = 0
    consuming = await connection.channel()
    await consuming.set_qos(1)

    async def refuse(message: aio_pika.abc.AbstractIncomingMessage) -> None:
        nonlocal deliveries
        deliveries += 1
        await message.reject(requeue=True)

    await (await consuming.get_queue(REQUESTS)).consume(refuse)
    assert await consume_one(channel, DEAD_LETTERS) == b"stubborn"
    assert deliveries == 21


async def test_a_missing_binding_is_created(
    connection: AbstractConnection, channel: AbstractChannel
) -> None:
    await declare_topology(connection)
    queue = await channel.get_queue(REQUESTS)
    await queue.unbind(REQUESTS, "#")
    await declare_topology(connection)
    await publish(channel, REQUESTS, "heat")
    assert await consume_one(channel, REQUESTS) == b"{}"


async def test_all_differences_are_reported_at_once_and_left_alone(
    connection: AbstractConnection, channel: AbstractChannel
) -> None:
    await channel.declare_queue(REQUESTS, durable=True)
    await publish(channel, "", REQUESTS, b"already there")
    await channel.declare_exchange(EVENTS, "topic", durable=True)
    await channel.declare_exchange(DEAD_LETTERS, "direct", durable=True)
    with pytest.raises(TopologyDiffers) as differs:
        await declare_topology(connection)
    message = str(differs.value)
    for name in (f"queue '{REQUESTS}'", f"exchange '{EVENTS}'", f"exchange '{DEAD_LETTERS}'"):
        assert name in message
    assert f"'{UNROUTED}' in vhost" not in message
    assert differs.value.exit_code == 5
    await channel.declare_queue(REQUESTS, durable=True)
    await channel.declare_exchange(EVENTS, "topic", durable=True)
    await channel.declare_exchange(DEAD_LETTERS, "direct", durable=True)
    assert await consume_one(channel, REQUESTS) == b"already there"


async def test_a_queue_with_another_delivery_limit_differs(
    connection: AbstractConnection, channel: AbstractChannel
) -> None:
    await declare_topology(connection)
    await channel.queue_delete(REQUESTS)
    ours = next(queue for queue in topology.QUEUES if queue.name == REQUESTS)
    other: dict[str, Any] = {**ours.arguments, "x-delivery-limit": 5}
    await channel.declare_queue(REQUESTS, durable=True, arguments=other)
    with pytest.raises(TopologyDiffers, match="x-delivery-limit"):
        await declare_topology(connection)
