"""Publishing with confirms, a batch at a time.

aio-pika publishes one message under a lock and waits for the socket to take it; that costs more
than deciding a reservation does. Here the frames of many messages are marshalled together and
handed to the same aiormq channel in few writes, with one future for each delivery tag.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from aiormq.abc import ChannelFrame, DeliveredMessage
from aiormq.exceptions import DeliveryError

from worker.broker.channels import DirectChannel
from worker.broker.failures import explain, translated_failures
from worker.broker.frames import publish_frames
from worker.errors import SessionLost
from worker.messages import Message

MESSAGES_PER_WRITE: Final = 100
"""About 80 KB of events: few writes, yet a heartbeat never waits long behind one."""

CONFIRM_TIMEOUT_SECONDS: Final = 600
"""A broker under a memory or disk alarm confirms nothing until it is over. Well below the 30
minutes after which RabbitMQ closes the channel of a consumer that settles nothing."""

Confirmation = asyncio.Future[object]


class Publisher:
    """Publishes on one channel, which nobody else may publish on: it counts the delivery tags."""

    def __init__(self, channel: DirectChannel) -> None:
        self._channel = channel
        self._pending: set[Confirmation] = set()
        self._returned: str | None = None
        channel.on_return = self._on_return
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
        number, body_bytes_max = self._channel.number, self._channel.max_content_size
        payload = b"".join(publish_frames(number, body_bytes_max, message) for message in messages)
        confirmations = [self._expect_confirmation() for _ in messages]
        await self._channel.write_queue.put(ChannelFrame(payload, should_close=False))
        return confirmations

    def _expect_confirmation(self) -> Confirmation:
        """Register the next delivery tag with aiormq, which resolves the future of each."""
        confirmation: Confirmation = asyncio.get_running_loop().create_future()
        self._channel.delivery_tag += 1
        tag = self._channel.delivery_tag
        self._channel.confirmations[tag] = confirmation
        self._pending.add(confirmation)
        confirmation.add_done_callback(self._pending.discard)
        return confirmation

    async def _settled(self, confirmations: list[Confirmation]) -> None:
        _, waiting = await asyncio.wait(confirmations, timeout=CONFIRM_TIMEOUT_SECONDS)
        if waiting:
            raise SessionLost(
                f"publishing: {len(waiting)} of {len(confirmations)} messages were not confirmed "
                f"within {CONFIRM_TIMEOUT_SECONDS} s"
            )

        if self._returned:
            # The broker returns a message before it confirms it, so none has passed unseen.
            raise SessionLost(f"publishing: a message found no queue at {self._returned}")

    def _on_return(self, message: DeliveredMessage) -> None:
        self._returned = message.exchange or "the default exchange"

    def _on_channel_closed(self, closing: asyncio.Future[object]) -> None:
        reason = None if closing.cancelled() else closing.exception()
        for confirmation in tuple(self._pending):
            if not confirmation.done():
                confirmation.set_exception(
                    SessionLost(f"publishing: the channel was closed: {explain(reason)}")
                )
                # Looked at, or asyncio complains of those that nobody waits for any more.
                confirmation.exception()


def _confirmed(confirmation: Confirmation) -> bool:
    failure = confirmation.exception()
    if isinstance(failure, DeliveryError):
        return False
    if failure is not None:
        raise failure
    return True
