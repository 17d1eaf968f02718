"""Going through the dead letters that were there at the start, and leaving there what is not taken.

A quorum queue has no way to look at a message without taking it out and returning it. What that
costs differs: until RabbitMQ 3.13 nothing, as the queue has no delivery limit; from 4.0 to 4.2 each
return counts towards the limit of 20 that such a queue has there, and beyond it the dead letter
would be dropped; from 4.3 on a nack does not count. So a dead letter that has been returned
REPUBLISHED_AFTER_RETURNS times is put back as a new copy, and its old one removed when the broker
has confirmed the copy. However often one looks, nothing is lost.

Dead letters come in pages, each from a consumer of its own that ends before the page is handed
on: so no more than a page is in memory, while those that were seen already stay with the
channel, out of the way, until the end. They are returned page by page, in order: before
RabbitMQ 4.0 to the end of the queue, from then on to where they were.
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
"""At most 32 MB of bodies where each is as long as a request may be."""
REPUBLISHED_AFTER_RETURNS: Final = 10
"""Half of the delivery limit that RabbitMQ 4 gives to a queue without one."""
KEPT_PER_CHANNEL: Final = 2000
"""For each acknowledgement RabbitMQ walks past all that is unsettled before it on its channel; and
a connection has 2047 channels, which is enough to keep four million dead letters."""
RETURNS_IN_FLIGHT: Final = 16
"""Pages; RabbitMQ keeps the order of up to 32 commands that it has not carried out yet
(SOFT_LIMIT in its rabbit_fifo_client.erl), and returns those beyond in any order."""
RETURNED_SECONDS: Final = 5
RETURNED_POLL_SECONDS: Final = 0.02
"""How long one waits to see dead letters in their queue again, and how often one looks; they may be
gone from there once more, if somebody else takes them."""
IDLE_SECONDS: Final = 1
"""After so long without a dead letter one asks the broker whether there are any left."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A dead letter: what is in it as a delivery, and what is written on it."""

    delivery: Delivery
    properties: Properties

    @property
    def headers(self) -> Mapping[str, object]:
        """All of them, as they came."""
        return self.properties.headers or {}


@dataclass(frozen=True, slots=True)
class _Kept:
    """Dead letters of one page that go back: all that is unsettled up to a tag of their channel."""

    channel: DirectChannel
    last_tag: int
    count: int


class DeadLetterQueue:
    """The dead letters, each of which is handed out once."""

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
        """On the channel that is in use."""
        self.count = count
        """How many dead letters there were when the queue was opened; no more are handed out."""

    @classmethod
    async def open(cls, url: str, publisher: Publisher) -> Self:
        """Connect, and see how many dead letters there are.

        Raises BrokerUnusable, also if there are consumers, for then the dead letters are theirs.
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
        """The dead letters, PAGE_SIZE at a time, from the oldest on; raises SessionLost.

        What has not been removed when the next page is asked for stays in the queue.
        """
        seen_count = 0
        while seen_count < self.count:
            page = await self._fetch(min(PAGE_SIZE, self.count - seen_count))
            if not page:
                return  # Somebody else was faster.
            seen_count += len(page)
            self._page = {dead_letter.delivery.tag: dead_letter for dead_letter in page}
            yield page
            await self._republish([p for p in self._page.values() if _was_returned_often(p)])
            self._keep(list(self._page))
            self._page.clear()

    async def publish(self, messages: Sequence[Message]) -> list[bool]:
        """Publish and wait for the broker's word on each message; see Publisher."""
        return await self._publisher.publish(messages)

    async def remove(self, dead_letters: Iterable[DeadLetter]) -> None:
        """Take dead letters of the last page out of the queue for good."""
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
        """Hand back what is kept, and wait until it is there for others again."""
        expected = (await _declared(self._channel)).message_count or 0
        is_alone = True
        # Two channels are two processes of the broker, which do not wait for each other.
        for channel, pages in groupby(self._kept, lambda kept: kept.channel):
            while some := list(islice(pages, RETURNS_IN_FLIGHT)):
                for kept in some:
                    await channel.basic_nack(kept.last_tag, multiple=True, requeue=True, wait=False)
                    expected += kept.count
                # Where somebody else takes dead letters, there is no order to keep.
                is_alone = is_alone and await self._wait_until_ready(expected)

    async def _wait_until_ready(self, expected: int) -> bool:
        """Wait until so many dead letters are ready; False if that takes too long."""
        # Without a timeout, which would cancel the question, and with it the channel.
        end = time.monotonic() + RETURNED_SECONDS
        while ((await _declared(self._channel)).message_count or 0) < expected:
            if time.monotonic() > end:
                return False
            await asyncio.sleep(RETURNED_POLL_SECONDS)
        return True

    async def _fetch(self, most: int) -> list[DeadLetter]:
        """The next dead letters, ``most`` unless there are fewer left."""
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
        """Put copies in the place of dead letters that were returned often."""
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
    """The dead letters; raises BrokerUnusable, also while somebody else consumes them."""
    # On a connection of its own: an alarm, which blocks publishers, must not keep dead letters
    # from being returned.
    async with open_publisher(url, "publishing for dead letters") as publisher:
        queue = await DeadLetterQueue.open(url, publisher)
        try:
            yield queue
        finally:
            await queue.close()


async def _declared(channel: DirectChannel) -> Queue.DeclareOk:
    """What the broker tells of the queue, without declaring it."""
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
    """The dead letter again, with everything that a worker puts on one."""
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
