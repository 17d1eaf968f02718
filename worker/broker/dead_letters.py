"""Pages through the dead letters that are there at the start; what is not removed stays there.

A message in a quorum queue can be read only by consuming it and returning it. What that costs
depends on the version. Up to RabbitMQ 3.13 it costs nothing, because the queue has no delivery
limit. From 4.0 to 4.2 each return counts towards the limit of 20 that such a queue has there, and
beyond it the dead letter would be dropped. From 4.3 on a nack does not count. So a dead letter that
has been returned REPUBLISHED_AFTER_RETURNS times is published again as a copy, and the original is
removed once the broker has confirmed the copy. However often the queue is read, nothing is lost.

Each page has a consumer of its own, which ends before the page is handed on. So no more than one
page is in memory, while the dead letters of earlier pages stay unsettled on their channel, out of
the way, until the end. They are returned page by page, in order: before RabbitMQ 4.0 to the end of
the queue, from then on to where they were.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from itertools import groupby, islice
from typing import Final, Self

from pamqp.commands import Queue

from contracts import topology
from worker.broker.client_failures import translated_failures
from worker.broker.connection import Connection, close_connection, connect
from worker.broker.consumer import delivery_of
from worker.broker.messages import Delivery, Message
from worker.broker.publisher import Publisher, not_ready, open_publisher
from worker.broker.reply_address import reply_address
from worker.broker.wire.channel import RPC_TIMEOUT_SECONDS, DirectChannel, open_channel
from worker.broker.wire.decoding import DeliveredMessage, Properties
from worker.errors import BrokerUnusable, SessionLost

QUEUE: Final = topology.DEAD_LETTERS

PAGE_SIZE: Final = 500
"""At most 32 MB of bodies, if each is as long as a request may be."""
REPUBLISHED_AFTER_RETURNS: Final = 10
"""Half of the delivery limit that RabbitMQ 4 sets for a queue that declares none."""
KEPT_PER_CHANNEL: Final = 2000
"""For each acknowledgement RabbitMQ goes through all that is unsettled before it on its channel, so
a channel must not hold many. A connection has 2047 channels: enough for four million."""
RETURNS_IN_FLIGHT: Final = 16
"""Pages. RabbitMQ keeps the order of up to 32 commands that it has not carried out yet (SOFT_LIMIT
in its rabbit_fifo_client.erl), and carries out the others in any order."""
RETURNED_SECONDS: Final = 5
RETURNED_POLL_SECONDS: Final = 0.02
"""How long to wait until the dead letters are back in their queue, and how often to ask. They may
never be seen there, if another consumer takes them at once."""
IDLE_SECONDS: Final = 1
"""After so long without a dead letter the broker is asked whether there are any left."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A dead letter: its content as a delivery, and all of its properties."""

    delivery: Delivery
    properties: Properties

    @property
    def headers(self) -> Mapping[str, object]:
        """All headers, as they arrived."""
        return self.properties.headers or {}


@dataclass(frozen=True, slots=True)
class _Kept:
    """Dead letters of one page to be returned: all unsettled ones up to a tag of their channel."""

    channel: DirectChannel
    last_tag: int
    count: int


class DeadLetterQueue:
    """The queue of dead letters, each of which is handed out once."""

    def __init__(
        self,
        connection: Connection,
        channel: DirectChannel,
        publisher: Publisher,
        count: int,
    ) -> None:
        self._connection = connection
        self._channel = channel
        self._publisher = publisher
        self._arrived: list[DeadLetter] = []
        self._has_arrived = asyncio.Event()
        self._page: dict[int, DeadLetter] = {}
        self._kept: list[_Kept] = []
        self._kept_here_count = 0
        """How many are kept on the channel that is in use."""
        self.count = count
        """How many dead letters there were when the queue was opened; no more are handed out."""

    @classmethod
    async def open(cls, url: str, publisher: Publisher) -> Self:
        """Connect, and count the dead letters.

        Raises BrokerUnusable, also if the queue has consumers: they get the dead letters.
        """
        connection = await connect(url, "looking at dead letters")
        try:
            with translated_failures(not_ready(QUEUE), BrokerUnusable):
                channel = await open_channel(connection, confirms=False)
                declared = await _declared(channel)
            _require_no_consumers(declared.consumer_count or 0)
        except BaseException:
            await close_connection(connection)
            raise
        return cls(connection, channel, publisher, declared.message_count or 0)

    async def pages(self) -> AsyncGenerator[list[DeadLetter]]:
        """The dead letters, oldest first, in pages of PAGE_SIZE; raises SessionLost.

        What has not been removed by the time the next page is asked for stays in the queue.
        """
        seen_count = 0
        while seen_count < self.count:
            page = await self._fetch(min(PAGE_SIZE, self.count - seen_count))
            if not page:
                return  # Another consumer was faster.
            seen_count += len(page)
            self._page = {dead_letter.delivery.tag: dead_letter for dead_letter in page}
            yield page
            await self._republish([p for p in self._page.values() if _was_returned_often(p)])
            self._keep(list(self._page))
            self._page.clear()

    async def publish(self, messages: Sequence[Message]) -> list[bool]:
        """Publish, and wait until each message is confirmed or refused; see Publisher."""
        return await self._publisher.publish(messages)

    async def remove(self, dead_letters: Iterable[DeadLetter]) -> None:
        """Remove dead letters of the last page from the queue for good."""
        with translated_failures("removing dead letters"):
            for dead_letter in dead_letters:
                await self._channel.basic_ack(dead_letter.delivery.tag, wait=False)
                del self._page[dead_letter.delivery.tag]

    async def close(self) -> None:
        """Return to the queue what was not removed, and disconnect."""
        self._keep(list(self._page))
        self._keep([dead_letter.delivery.tag for dead_letter in self._arrived])
        with suppress(SessionLost), translated_failures("returning dead letters"):
            await self._return()
        await close_connection(self._connection)

    def _keep(self, tags: Sequence[int]) -> None:
        if tags:
            self._kept.append(_Kept(self._channel, tags[-1], len(tags)))
            self._kept_here_count += len(tags)

    async def _return(self) -> None:
        """Return what is kept, and wait until it is ready for other consumers again."""
        expected = (await _declared(self._channel)).message_count or 0
        is_alone = True
        # Each channel is a process of the broker, and they do not wait for each other.
        for channel, pages in groupby(self._kept, lambda kept: kept.channel):
            while some := list(islice(pages, RETURNS_IN_FLIGHT)):
                for kept in some:
                    await channel.basic_nack(kept.last_tag, multiple=True, requeue=True, wait=False)
                    expected += kept.count
                # If another consumer takes dead letters, there is no order to keep.
                is_alone = is_alone and await self._wait_until_ready(expected)

    async def _wait_until_ready(self, expected: int) -> bool:
        """Wait until so many dead letters are ready; False if that takes too long."""
        # Not by a timeout, which would cancel the RPC, and that closes the channel.
        end = time.monotonic() + RETURNED_SECONDS
        while ((await _declared(self._channel)).message_count or 0) < expected:
            if time.monotonic() > end:
                return False
            await asyncio.sleep(RETURNED_POLL_SECONDS)
        return True

    async def _fetch(self, most: int) -> list[DeadLetter]:
        """The next dead letters, as many as ``most`` if so many are left."""
        with translated_failures(f"consuming from {QUEUE}"):
            if self._kept_here_count >= KEPT_PER_CHANNEL:
                self._channel = await open_channel(self._connection, confirms=False)
                self._kept_here_count = 0
            await self._channel.basic_qos(prefetch_count=most, timeout=RPC_TIMEOUT_SECONDS)
            tag = await self._channel.consume(QUEUE, self._on_delivery)
            while len(self._arrived) < most:
                self._has_arrived.clear()
                try:
                    await asyncio.wait_for(self._has_arrived.wait(), IDLE_SECONDS)
                except TimeoutError:
                    if not (await _declared(self._channel)).message_count:
                        break
            await self._channel.basic_cancel(tag, timeout=RPC_TIMEOUT_SECONDS)
        fetched, self._arrived = self._arrived, []
        return fetched

    async def _republish(self, dead_letters: Sequence[DeadLetter]) -> None:
        """Replace dead letters that have been returned often by copies."""
        if dead_letters:
            confirmed = await self.publish([_copy_of(dead_letter) for dead_letter in dead_letters])
            await self.remove(
                dead_letter for dead_letter, ok in zip(dead_letters, confirmed, strict=True) if ok
            )

    def _on_delivery(self, message: DeliveredMessage) -> None:
        self._arrived.append(_dead_letter(message))
        self._has_arrived.set()


@asynccontextmanager
async def open_dead_letters(url: str) -> AsyncGenerator[DeadLetterQueue]:
    """The dead letters; raises BrokerUnusable, also if the queue has other consumers."""
    # On a connection of its own, so that an alarm that blocks publishers does not stop returns.
    async with open_publisher(url, "publishing for dead letters") as publisher:
        queue = await DeadLetterQueue.open(url, publisher)
        try:
            yield queue
        finally:
            await queue.close()


async def _declared(channel: DirectChannel) -> Queue.DeclareOk:
    """What the broker says about the queue, without declaring it."""
    return await channel.queue_declare(QUEUE, passive=True, timeout=RPC_TIMEOUT_SECONDS)


def _require_no_consumers(count: int) -> None:
    if count:
        raise BrokerUnusable(
            f"{QUEUE} has {count} consumers, who take the dead letters away: stop them first, or "
            "wait until another of these commands has ended"
        )


def _was_returned_often(dead_letter: DeadLetter) -> bool:
    return dead_letter.delivery.failures >= REPUBLISHED_AFTER_RETURNS


def _copy_of(dead_letter: DeadLetter) -> Message:
    """The dead letter once more, with everything that a worker sets on one."""
    delivery, properties = dead_letter.delivery, dead_letter.properties
    texts = {name: value for name, value in dead_letter.headers.items() if isinstance(value, str)}
    return Message(
        exchange=topology.DEAD_LETTERS,
        routing_key=delivery.routing_key,
        body=delivery.body,
        headers=texts,
        mandatory=True,
        content_type=delivery.content_type,
        content_encoding=delivery.content_encoding,
        correlation_id=delivery.correlation_id,
        reply_to=reply_address(delivery.reply_to),
        message_id=properties.message_id,
        type=properties.type,
        timestamp=properties.timestamp,
    )


def _dead_letter(message: DeliveredMessage) -> DeadLetter:
    return DeadLetter(delivery_of(message), message.properties)
