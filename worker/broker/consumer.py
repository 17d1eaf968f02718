"""Collects deliveries from the request queue, and settles them on the channel they came from."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection, Mapping
from typing import Final

from pamqp.commands import Basic

from contracts import topology
from worker.broker.client_failures import translated_failures
from worker.broker.messages import Delivery
from worker.broker.wire.channel import RPC_TIMEOUT_SECONDS, DirectChannel
from worker.broker.wire.decoding import DeliveredMessage

SLOW_START_PREFETCH: Final = 1
"""A session begins with one: a request that killed the last worker is at the head of the queue, and
each delivery that is held beside it would count one more failure whenever it kills again."""
DELIVERY_COUNT: Final = "x-delivery-count"
"""Set by quorum queues on a redelivered message: the number of its failed deliveries."""

TRACE_HEADERS: Final = ("traceparent", "tracestate")
TRACE_CHARACTERS_MAX: Final = 1024
"""W3C Trace Context says that at least 512 characters of tracestate should be passed on."""


class Consumer:
    """The deliveries of one channel, in order, from their arrival until they are settled."""

    def __init__(self, channel: DirectChannel) -> None:
        self._channel = channel
        self._waiting: deque[Delivery] = deque()
        self._wake_up = asyncio.Event()
        self._consumer_tag = ""
        self._prefetch_count = 0
        self._slow_start = False
        self._lock = asyncio.Lock()
        self._stopped = False
        self._last_tag = 0
        self._settled_tag = 0
        self.cancelled_by_broker: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def stopped(self) -> bool:
        """Whether it has been stopped, so that nothing more is collected."""
        return self._stopped

    @property
    def last_tag(self) -> int:
        """The tag of the last delivery that arrived; tags count from 1."""
        return self._last_tag

    @property
    def unsettled(self) -> int:
        """How many have arrived and are not settled."""
        return self._last_tag - self._settled_tag

    async def start(self, prefetch_count: int, *, slow_start: bool = True) -> None:
        """Begin to consume; raises SessionLost.

        A slow start holds one delivery at a time, until one that cannot be poison is settled.
        """
        self._channel.on_consumer_cancel_callbacks.add(self._on_cancelled)
        self._prefetch_count = prefetch_count
        self._slow_start = slow_start and prefetch_count > SLOW_START_PREFETCH
        await self._consume(SLOW_START_PREFETCH if self._slow_start else prefetch_count)

    async def collect(self, most: int) -> list[Delivery]:
        """What has arrived, in order, but no more than ``most``; empty after ``stop``.

        Waits only while there is nothing at all: under load, what queues up during one commit
        is the next batch. A delivery that may be poison is a batch of its own.
        """
        while not self._waiting and not self._stopped:
            self._wake_up.clear()
            await self._wake_up.wait()
        if self._stopped:
            return []
        batch = [self._waiting.popleft()]
        while self._waiting and len(batch) < most and _may_share_batch(batch[-1], self._waiting[0]):
            batch.append(self._waiting.popleft())
        return batch

    async def settle(self, batch: Collection[Delivery], failed: Collection[Delivery]) -> None:
        """Acknowledge a batch, but return to the queue what failed, as a failed attempt.

        Batches are settled in the order in which they were collected, so one acknowledgement
        covers everything up to the last tag that did not fail.
        """
        async with self._lock:
            has_poison = any(delivery.may_be_poison for delivery in batch)
            if not self._slow_start or has_poison or self._stopped:
                await self._settle(batch, failed)
                return
            # In this order, or the broker would deliver one more to the consumer that ends.
            await self._cancel()
            await self._settle(batch, failed)
            await self._consume(self._prefetch_count)
            self._slow_start = False

    async def stop(self) -> None:
        """Collect nothing more: ``collect`` ends, and what has arrived stays unsettled.

        ``collect`` ends only after the broker has answered: its end may make the caller cancel
        this call, and a call that is cancelled while it waits closes the channel.
        """
        if self._stopped:
            return
        try:
            async with self._lock:
                await self._cancel()
        finally:
            self._stopped = True
            self._wake_up.set()

    async def hand_back(self) -> int:
        """Return everything unsettled to the queue, and say how many deliveries that were.

        By a nack, which from RabbitMQ 4.3 on does not count as a failed attempt; a reject does.
        """
        unsettled = self.unsettled
        if unsettled:
            with translated_failures("handing back deliveries"):
                await self._channel.basic_nack(self._last_tag, multiple=True, requeue=True)
            self._settled_tag = self._last_tag
        return unsettled

    async def _consume(self, prefetch_count: int) -> None:
        with translated_failures(f"consuming from {topology.REQUESTS}"):
            await self._channel.basic_qos(
                prefetch_count=prefetch_count, timeout=RPC_TIMEOUT_SECONDS
            )
            self._consumer_tag = await self._channel.consume(topology.REQUESTS, self._on_delivery)

    async def _cancel(self) -> None:
        with translated_failures("cancelling the consumer"):
            await self._channel.basic_cancel(self._consumer_tag, timeout=RPC_TIMEOUT_SECONDS)

    async def _settle(self, batch: Collection[Delivery], failed: Collection[Delivery]) -> None:
        with translated_failures("settling deliveries"):
            for delivery in failed:
                # A reject counts towards the delivery limit in every version of RabbitMQ.
                await self._channel.basic_reject(delivery.tag, requeue=True, wait=False)
            # It must be the tag of an unsettled delivery: RabbitMQ refuses any other.
            tags = {delivery.tag for delivery in batch} - {delivery.tag for delivery in failed}
            if tags:
                await self._channel.basic_ack(max(tags), multiple=True, wait=False)
            self._settled_tag = max(delivery.tag for delivery in batch)

    def _on_delivery(self, message: DeliveredMessage) -> None:
        self._last_tag = message.tag
        self._waiting.append(delivery_of(message))
        self._wake_up.set()

    def _on_cancelled(self, _frame: Basic.Cancel) -> None:
        if not self.cancelled_by_broker.done():
            self.cancelled_by_broker.set_result(None)


def _may_share_batch(one: Delivery, other: Delivery) -> bool:
    """Whether these two may be in one batch."""
    return not (one.may_be_poison or other.may_be_poison)


def delivery_of(message: DeliveredMessage) -> Delivery:
    """What the pipeline has to know about a delivered message."""
    properties = message.properties
    headers = properties.headers or {}
    # Before the first failure the broker sets no count, so a publisher could forge one.
    failures = headers.get(DELIVERY_COUNT) if message.redelivered else 0
    return Delivery(
        tag=message.tag,
        body=message.body,
        routing_key=message.routing_key,
        failures=failures if isinstance(failures, int) else 0,
        content_type=properties.content_type,
        content_encoding=properties.content_encoding,
        correlation_id=properties.correlation_id,
        reply_to=properties.reply_to,
        trace_context=_trace_context(headers) if headers else None,
    )


def _trace_context(headers: Mapping[str, object]) -> dict[str, str]:
    found = {name: headers.get(name) for name in TRACE_HEADERS}
    return {
        name: value
        for name, value in found.items()
        if isinstance(value, str) and len(value) <= TRACE_CHARACTERS_MAX
    }
