"""Publishing with confirms, a batch at a time.

aio-pika publishes one message under a lock and waits for the socket to take it; that costs more
than deciding a reservation does. Here the frames of many messages are marshalled together and
handed to the same aiormq channel in few writes, with one future for each delivery tag.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from aiormq.abc import ChannelFrame, FrameType
from aiormq.channel import Channel
from aiormq.exceptions import DeliveryError
from pamqp.body import ContentBody
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from worker.broker.failures import explain, translated_failures
from worker.errors import SessionLost
from worker.messages import Message

APP_ID: Final = "reservation-worker"
PERSISTENT: Final = 2

MESSAGES_PER_WRITE: Final = 100
"""About 80 KB of events: few writes, yet a heartbeat never waits long behind one."""

CONFIRM_TIMEOUT_SECONDS: Final = 600
"""A broker under a memory or disk alarm confirms nothing until it is over. Well below the 30
minutes after which RabbitMQ closes the channel of a consumer that settles nothing."""

Confirmation = asyncio.Future[object]


class Publisher:
    """Publishes on one channel, which nobody else may publish on: it counts the delivery tags."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._pending: set[Confirmation] = set()
        channel.closing.add_done_callback(self._on_channel_closed)

    async def publish(self, messages: Sequence[Message]) -> list[bool]:
        """Publish in order and wait for the broker's word on each; False for a refused message.

        Raises SessionLost when the channel closes meanwhile, when a mandatory message finds no
        queue, or when there is no word within CONFIRM_TIMEOUT_SECONDS. What was written may have
        arrived all the same. A cancelled call leaves the channel unusable.
        """
        confirmations: list[Confirmation] = []
        with translated_failures("publishing"):
            for start in range(0, len(messages), MESSAGES_PER_WRITE):
                confirmations += await self._write(messages[start : start + MESSAGES_PER_WRITE])
            if confirmations:
                await self._settled(confirmations)
        return [_confirmed(confirmation) for confirmation in confirmations]

    async def _write(self, messages: Sequence[Message]) -> list[Confirmation]:
        if self._channel.is_closed:
            raise SessionLost("publishing: the channel is closed")
        frames: list[FrameType] = []
        confirmations = []
        for message in messages:
            frames += self._frames(message)
            confirmations.append(self._expect_confirmation(message))
        await self._channel.write_queue.put(ChannelFrame.marshall(self._channel.number, frames))
        return confirmations

    def _expect_confirmation(self, message: Message) -> Confirmation:
        """Register the next delivery tag with aiormq, which resolves the future of each."""
        confirmation: Confirmation = asyncio.get_running_loop().create_future()
        self._channel.delivery_tag += 1
        tag = self._channel.delivery_tag
        self._channel.confirmations[tag] = confirmation
        # aiormq finds the future of a returned message by its message id.
        message_id = message.message_id or str(tag)
        self._channel.message_id_delivery_tag[message_id] = tag
        self._pending.add(confirmation)
        confirmation.add_done_callback(self._pending.discard)
        return confirmation

    def _frames(self, message: Message) -> list[FrameType]:
        size = self._channel.max_content_size
        parts = range(0, len(message.body), size)
        return [
            Basic.Publish(
                exchange=message.exchange,
                routing_key=message.routing_key,
                mandatory=message.mandatory,
            ),
            ContentHeader(body_size=len(message.body), properties=_properties(message)),
            *(ContentBody(message.body[start : start + size]) for start in parts),
        ]

    async def _settled(self, confirmations: list[Confirmation]) -> None:
        _, waiting = await asyncio.wait(confirmations, timeout=CONFIRM_TIMEOUT_SECONDS)
        self._channel.message_id_delivery_tag.clear()
        if waiting:
            raise SessionLost(
                f"publishing: {len(waiting)} of {len(confirmations)} messages were not confirmed "
                f"within {CONFIRM_TIMEOUT_SECONDS} s"
            )

    def _on_channel_closed(self, closing: asyncio.Future[object]) -> None:
        reason = None if closing.cancelled() else closing.exception()
        for confirmation in tuple(self._pending):
            if not confirmation.done():
                confirmation.set_exception(
                    SessionLost(f"publishing: the channel was closed: {explain(reason)}")
                )


def _confirmed(confirmation: Confirmation) -> bool:
    failure = confirmation.exception()
    if isinstance(failure, DeliveryError):
        return False
    if failure is not None:
        raise failure
    if not isinstance(confirmation.result(), Basic.Ack):
        raise SessionLost("publishing: a message found no queue, so the topology has changed")
    return True


def _properties(message: Message) -> Basic.Properties:
    return Basic.Properties(
        app_id=APP_ID,
        content_encoding=message.content_encoding,
        content_type=message.content_type,
        correlation_id=message.correlation_id,
        delivery_mode=PERSISTENT,
        headers=dict(message.headers),
        message_id=message.message_id,
        message_type=message.type,
        reply_to=message.reply_to,
        timestamp=message.timestamp,
    )
