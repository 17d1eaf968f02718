"""Opening channels below aio-pika's: the batches of the pipeline need what it hides.

Publishing needs the delivery tags, and taking needs deliveries as they come: aiormq starts a task
for each of them, which costs as much as deciding eight.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from aio_pika.abc import AbstractConnection
from aiormq.abc import DeliveredMessage
from aiormq.channel import Channel
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from worker.errors import SessionLost

RPC_TIMEOUT_SECONDS: Final = 10

FRAME_BUFFER_SIZE: Final = 1000
"""aiormq hands frames from the connection to the channel through a queue; with its default of 10
the two take turns every few messages."""


class DirectChannel(Channel):
    """aiormq's channel, but deliveries and returned messages go to plain functions, in order.

    aiormq finds the publisher of a returned message by its message id, and drops one without.
    """

    on_return: Callable[[DeliveredMessage], None]
    _on_delivery: Callable[[DeliveredMessage], None]

    async def consume(
        self, queue: str, on_delivery: Callable[[DeliveredMessage], None], *, no_ack: bool = False
    ) -> str:
        """Begin to consume the one queue of this channel, and return the consumer's tag."""
        self._on_delivery = on_delivery
        consuming = await self.basic_consume(
            queue, _unused_callback, no_ack=no_ack, timeout=RPC_TIMEOUT_SECONDS
        )
        return consuming.consumer_tag or ""

    async def _on_deliver_frame(self, frame: Basic.Deliver) -> None:
        self._on_delivery(await self._content_of(frame))

    async def _on_return_frame(self, frame: Basic.Return) -> None:
        self.on_return(await self._content_of(frame))

    async def _content_of(self, frame: Basic.Deliver | Basic.Return) -> DeliveredMessage:
        header = await self._get_frame()
        if not isinstance(header, ContentHeader):
            raise SessionLost(f"a message without a content header: {header!r}")
        return await self._read_content(frame, header)


async def _unused_callback(_message: DeliveredMessage) -> None:
    """aiormq insists on one; a DirectChannel has its own way for deliveries."""


async def open_channel(connection: AbstractConnection, *, confirms: bool) -> DirectChannel:
    """Open a channel, with publisher confirms or without.

    aiormq has no way to open a channel of another class, so this does what it does itself.
    """
    if connection.transport is None:
        raise SessionLost("opening a channel: the connection is closed")
    transport = connection.transport.connection
    number = max(transport.channels, default=0) + 1
    channel = DirectChannel(
        transport, number, publisher_confirms=confirms, frame_buffer=FRAME_BUFFER_SIZE
    )
    transport.channels[number] = channel
    await channel.open(timeout=RPC_TIMEOUT_SECONDS)
    return channel
