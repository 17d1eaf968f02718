"""Receives events and dead letters, for the commands that watch what the workers do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

from worker.broker.client_failures import translated_failures
from worker.broker.connection import close_connection, connect
from worker.broker.wire.channel import RPC_TIMEOUT_SECONDS, DirectChannel, open_channel
from worker.broker.wire.decoding import DeliveredMessage
from worker.errors import SessionLost


@dataclass(frozen=True, slots=True)
class Received:
    """A message as a subscriber receives it."""

    body: bytes
    headers: Mapping[str, object]
    message_id: str | None


class MessageSource(Protocol):
    """Yields messages one by one."""

    async def get(self) -> Received: ...


class Subscription:
    """The messages that arrive, in order, until the channel is closed."""

    def __init__(self, channel: DirectChannel) -> None:
        self._arrived: asyncio.Queue[Received | None] = asyncio.Queue()
        channel.closing.add_done_callback(lambda _: self._arrived.put_nowait(None))

    async def get(self) -> Received:
        """Wait for the next message; raises SessionLost once the channel is closed."""
        received = await self._arrived.get()
        if received is None:
            raise SessionLost("the subscription ended, because its channel was closed")
        return received

    def on_delivery(self, message: DeliveredMessage) -> None:
        """Receive a message from the channel."""
        properties = message.properties
        received = Received(message.body, properties.headers or {}, properties.message_id)
        self._arrived.put_nowait(received)


@asynccontextmanager
async def subscribe(url: str, exchange: str, binding_key: str) -> AsyncIterator[Subscription]:
    """Everything published to an exchange from now on, through a queue that is deleted at the end.

    Raises BrokerUnusable, also if the exchange does not exist yet.
    """
    async with _consuming(url, "watching events", exchange, binding_key, None) as subscription:
        yield subscription


@asynccontextmanager
async def consume(url: str, queue: str) -> AsyncIterator[Subscription]:
    """Everything that is in a queue or arrives there, removed from it for good."""
    async with _consuming(url, f"consuming {queue}", "", "", queue) as subscription:
        yield subscription


@asynccontextmanager
async def _consuming(
    url: str, purpose: str, exchange: str, binding_key: str, queue: str | None
) -> AsyncIterator[Subscription]:
    connection = await connect(url, purpose)
    try:
        with translated_failures(f"{purpose} at {exchange or queue}"):
            channel = await open_channel(connection, confirms=False)
            if queue is None:
                declared = await channel.queue_declare(exclusive=True, timeout=RPC_TIMEOUT_SECONDS)
                queue = declared.queue or ""
                await channel.queue_bind(queue, exchange, binding_key, timeout=RPC_TIMEOUT_SECONDS)
            subscription = Subscription(channel)
            await channel.consume(queue, subscription.on_delivery, no_ack=True)
        yield subscription
    finally:
        await close_connection(connection)


async def queue_depth(url: str, queue: str) -> int:
    """How many messages are ready in a queue, not counting those that are unacknowledged."""
    connection = await connect(url, "counting messages")
    try:
        with translated_failures(f"counting messages in {queue}"):
            channel = await open_channel(connection, confirms=False)
            declared = await channel.queue_declare(queue, passive=True, timeout=RPC_TIMEOUT_SECONDS)
            return declared.message_count or 0
    finally:
        await close_connection(connection)
