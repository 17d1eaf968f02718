"""Channels below aio-pika's, which hides what the pipeline's batches need.

Publishing needs the delivery tags, and consuming needs deliveries without a task for each: aiormq
starts one, which costs as much as deciding eight requests.
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
    """aiormq's channel, but frequent frames are handled by plain functions, in order.

    aiormq itself does everything else: opening, declaring, consuming, settling, closing. Its own
    publishing cannot be used on such a channel, because it never sees a confirmation.
    """

    on_delivery: Callable[[DeliveredMessage], None]
    on_confirmation: Callable[[Confirmation], None]
    on_return: Callable[[str], None]
    """Called with the exchange that had no queue for a mandatory message."""

    async def consume(
        self, queue: str, on_delivery: Callable[[DeliveredMessage], None], *, no_ack: bool = False
    ) -> str:
        """Begin to consume the only queue of this channel, and return the consumer's tag."""
        self.on_delivery = on_delivery
        consume_ok = await self.basic_consume(
            queue, _unused_callback, no_ack=no_ack, timeout=RPC_TIMEOUT_SECONDS
        )
        return consume_ok.consumer_tag or ""

    def dispatch(self, method: bytes, header: bytes, body: bytes) -> None:
        """Handle a method, and its content if it has any, from the connection's Demultiplexer."""
        if method.startswith(BASIC_DELIVER):
            self.on_delivery(read_delivered_message(method, header, body))
        elif method.startswith(BASIC_RETURN):
            self.on_return(read_returned_exchange(method))
        else:
            self.on_confirmation(read_confirmation(method))


async def _unused_callback(_message: object) -> None:
    """Required by aiormq, but deliveries on a DirectChannel go to ``on_delivery``."""


async def open_channel(connection: Connection, *, confirms: bool) -> DirectChannel:
    """Open a channel, with or without publisher confirms.

    aiormq cannot open a channel of another class, so this repeats what aiormq does.
    """
    if connection.transport is None:
        raise SessionLost("opening a channel: the connection is closed")
    transport: AbstractConnection = connection.transport.connection
    number = max(transport.channels, default=0) + 1
    channel = DirectChannel(transport, number, publisher_confirms=confirms)
    transport.channels[number] = channel
    connection.demultiplexer.route(number, channel.dispatch)
    # aiormq's own timeout covers only the first of the RPCs in this.
    async with asyncio.timeout(RPC_TIMEOUT_SECONDS):
        await channel.open()
    return channel
