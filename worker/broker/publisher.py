"""Publishes with confirms, a batch at a time.

aio-pika publishes each message under a lock and waits for the socket to drain, which costs more
than deciding a reservation. Here the frames of many messages are encoded together and passed to
aiormq in a few writes, and the confirms of a batch are awaited as a whole.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Final

from aiormq.abc import ChannelFrame

from worker.broker.client_failures import explain, translated_failures
from worker.broker.connection import close_connection, connect
from worker.broker.messages import Message
from worker.broker.wire.channel import RPC_TIMEOUT_SECONDS, DirectChannel, open_channel
from worker.broker.wire.decoding import Confirmation
from worker.broker.wire.encoding import publish_frames
from worker.errors import BrokerUnusable, SessionLost

log: Final = logging.getLogger(__name__)

MESSAGES_PER_WRITE: Final = 100
"""About 80 KB of events: few writes, but a heartbeat never waits long behind one."""

CONFIRM_TIMEOUT_SECONDS: Final = 600
"""A broker under a memory or disk alarm confirms nothing until the alarm is over. Well below the 30
minutes after which RabbitMQ closes the channel of a consumer that settles nothing."""

SLOW_CONFIRM_SECONDS: Final = 5
"""After this long the log says what the worker is waiting for."""


class Publisher:
    """The only publisher of one channel, because it counts the delivery tags."""

    def __init__(self, channel: DirectChannel) -> None:
        self._channel = channel
        self._last_tag = 0
        self._unconfirmed: OrderedDict[int, tuple[_Batch, int]] = OrderedDict()
        self._returned_by: str | None = None
        channel.on_confirmation = self._on_confirmation
        channel.on_return = self._on_return
        channel.closing.add_done_callback(self._on_channel_closed)

    @property
    def closing(self) -> asyncio.Future[None]:
        """Done as soon as the channel is closed, by whichever side; fails with the reason."""
        return self._channel.closing

    async def publish(self, messages: Sequence[Message]) -> list[bool]:
        """Publish in order, and wait until each message is confirmed (True) or refused (False).

        One call at a time: delivery tags are counted in the order of the calls.

        Raises SessionLost when the channel closes meanwhile, when a mandatory message finds no
        queue, or when a confirm takes longer than CONFIRM_TIMEOUT_SECONDS. What was written may
        have arrived all the same. A cancelled call leaves the channel unusable.
        """
        batch = _Batch(len(messages))
        with translated_failures("publishing"):
            for start in range(0, len(messages), MESSAGES_PER_WRITE):
                await self._write(batch, start, messages[start : start + MESSAGES_PER_WRITE])
            if messages:
                await self._wait_for_confirms(batch)
        return batch.results

    async def publish_all(self, messages: Sequence[Message], kind: str, target: str) -> None:
        """Publish a chunk, all of which must be confirmed; raises as ``publish`` does.

        Also raises BrokerUnusable, with how many of the chunk were confirmed, if the ``target``
        is a full queue and refuses any of them. ``kind`` is what the messages are.
        """
        confirmed = await self.publish(messages)
        if not all(confirmed):
            raise BrokerUnusable(
                f"RabbitMQ takes only {confirmed.count(True)} of the next {len(messages)} {kind}, "
                f"because {target} is full"
            )

    async def _write(self, batch: _Batch, start: int, messages: Sequence[Message]) -> None:
        if self._channel.is_closed:
            raise SessionLost("publishing: the channel is closed")
        number, body_bytes_max = self._channel.number, self._channel.max_content_size
        payload = b"".join(publish_frames(number, body_bytes_max, message) for message in messages)
        for position in range(start, start + len(messages)):
            self._last_tag += 1
            self._unconfirmed[self._last_tag] = (batch, position)
        await self._channel.write_queue.put(ChannelFrame(payload, should_close=False))

    async def _wait_for_confirms(self, batch: _Batch) -> None:
        warning = asyncio.get_running_loop().call_later(
            SLOW_CONFIRM_SECONDS, _log_slow_confirms, batch
        )
        try:
            async with asyncio.timeout(CONFIRM_TIMEOUT_SECONDS):
                await batch.all_confirmed
        except TimeoutError:
            raise SessionLost(
                f"publishing: {batch.outstanding_count} of {len(batch.results)} messages were "
                f"not confirmed within {CONFIRM_TIMEOUT_SECONDS} s"
            ) from None
        finally:
            warning.cancel()
        if self._returned_by is not None:
            # The broker returns a message before it confirms it, so this misses none.
            exchange = self._returned_by or "the default exchange"
            raise SessionLost(f"publishing: a message found no queue at {exchange}")

    def _on_confirmation(self, confirmation: Confirmation) -> None:
        if not confirmation.multiple:
            self._resolve(confirmation.tag, confirmation)
            return
        while self._unconfirmed and (tag := next(iter(self._unconfirmed))) <= confirmation.tag:
            self._resolve(tag, confirmation)

    def _resolve(self, tag: int, confirmation: Confirmation) -> None:
        if pending := self._unconfirmed.pop(tag, None):
            batch, position = pending
            batch.resolve(position, confirmed=confirmation.is_ack)

    def _on_return(self, exchange: str) -> None:
        self._returned_by = exchange

    def _on_channel_closed(self, closing: asyncio.Future[object]) -> None:
        reason = None if closing.cancelled() else closing.exception()
        for batch, _ in self._unconfirmed.values():
            batch.fail(SessionLost(f"publishing: the channel was closed: {explain(reason)}"))
        self._unconfirmed.clear()


class _Batch:
    """Messages whose confirms are awaited together."""

    def __init__(self, count: int) -> None:
        self.results = [False] * count
        self.outstanding_count = count
        self.all_confirmed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def resolve(self, position: int, *, confirmed: bool) -> None:
        """Note whether the broker confirmed or refused the message at this position."""
        self.results[position] = confirmed
        self.outstanding_count -= 1
        if not self.outstanding_count and not self.all_confirmed.done():
            self.all_confirmed.set_result(None)

    def fail(self, failure: SessionLost) -> None:
        """Give up on the messages that are still outstanding."""
        if not self.all_confirmed.done():
            self.all_confirmed.set_exception(failure)
            # Retrieved, so that asyncio does not log an exception that nothing awaits any more.
            self.all_confirmed.exception()


@asynccontextmanager
async def open_publisher(
    url: str, purpose: str, *, exchange: str | None = None, queue: str | None = None
) -> AsyncGenerator[Publisher]:
    """A publisher on a connection of its own.

    Raises BrokerUnusable, also if the exchange or the queue it is meant for does not exist.
    """
    connection = await connect(url, purpose)
    try:
        with translated_failures("opening a channel", BrokerUnusable):
            channel = await open_channel(connection, confirms=True)
        if exchange is not None:
            with translated_failures(not_ready(exchange), BrokerUnusable):
                await channel.exchange_declare(exchange, passive=True, timeout=RPC_TIMEOUT_SECONDS)
        if queue is not None:
            with translated_failures(not_ready(queue), BrokerUnusable):
                await channel.queue_declare(queue, passive=True, timeout=RPC_TIMEOUT_SECONDS)
        yield Publisher(channel)
    finally:
        await close_connection(connection)


def not_ready(name: str) -> str:
    """What an operator is shown if an exchange or a queue cannot be used yet."""
    return f"{name} is not ready, start a worker once to have it declared"


def _log_slow_confirms(batch: _Batch) -> None:
    log.warning(
        "%d messages are not confirmed after %d s, and nothing more is collected meanwhile: "
        "RabbitMQ may be blocking publishers because of a memory or disk alarm",
        batch.outstanding_count,
        SLOW_CONFIRM_SECONDS,
    )
