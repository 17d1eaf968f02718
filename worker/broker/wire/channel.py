"""Channels below aio-pika's: the batches of the pipeline need what it hides.

Publishing needs the delivery tags, and taking needs deliveries as they come: aiormq starts a task
for each of them, which costs as much as deciding eight.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from aiormq.abc import AbstractConnection
from aiormq.channel import Channel

from worker.broker.connection import Connection
from worker.broker.wire.decoding import (
    BASIC_DELIVER,
    BASIC_RETURN,
    Confirmation,
    DeliveredMessage,
    read_confirmation,
    read_delivered_message,
    read_returned_exchange,
)
from worker.errors import SessionLost

RPC_TIMEOUT_SECONDS: Final = 10


class DirectChannel(Channel):
    """aiormq's channel, but what comes by the thousand goes to plain functions, in order.

    aiormq itself has the rest: opening, declaring, consuming, settling, closing. Its own publishing
    cannot be used on such a channel, because it never hears of a confirmation.
    """

    on_delivery: Callable[[DeliveredMessage], None]
    on_confirmation: Callable[[Confirmation], None]
    on_return: Callable[[str], None]
    """Called with the exchange from which a mandatory message found no queue."""

    async def consume(
        self, queue: str, on_delivery: Callable[[DeliveredMessage], None], *, no_ack: bool = False
    ) -> str:
        """Begin to consume the one queue of this channel, and return the consumer's tag."""
        self.on_delivery = on_delivery
        consume_ok = await self.basic_consume(
            queue, _unused_callback, no_ack=no_ack, timeout=RPC_TIMEOUT_SECONDS
        )
        return consume_ok.consumer_tag or ""

    def dispatch(self, method: bytes, header: bytes, body: bytes) -> None:
        """Take what the connection's Demultiplexer has for this channel."""
        if method.startswith(BASIC_DELIVER):
            self.on_delivery(read_delivered_message(method, header, body))
        elif method.startswith(BASIC_RETURN):
            self.on_return(read_returned_exchange(method))
        else:
            self.on_confirmation(read_confirmation(method))


async def _unused_callback(_message: object) -> None:
    """aiormq insists on one; a DirectChannel has its own way for deliveries."""


async def open_channel(connection: Connection, *, confirms: bool) -> DirectChannel:
    """Open a channel, with publisher confirms or without.

    aiormq has no way to open a channel of another class, so this does what it does itself.
    """
    if connection.transport is None:
        raise SessionLost("opening a channel: the connection is closed")
    transport: AbstractConnection = connection.transport.connection
    number = max(transport.channels, default=0) + 1
    channel = DirectChannel(transport, number, publisher_confirms=confirms)
    transport.channels[number] = channel
    connection.demultiplexer.route(number, channel.dispatch)
    # aiormq's own timeout is for the first of the questions that this asks.
    async with asyncio.timeout(RPC_TIMEOUT_SECONDS):
        await channel.open()
    return channel
