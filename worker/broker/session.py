"""A session with the broker: one pair of connections, and everything that lives as long as they do.

Crash-only: anything that closes a connection or a channel ends the session, what was unsettled is
delivered again, and the runtime opens a new session. aio-pika's robust connection is not used,
because its recovery can silently lose a consumer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any, Never, Self

from contracts import topology
from worker.broker.client_failures import explain, translated_failures
from worker.broker.connection import CLOSE_TIMEOUT_SECONDS, Connection, close_connection, connect
from worker.broker.consumer import Consumer
from worker.broker.messages import Message
from worker.broker.permissions import require_permissions, translated_access_refusal
from worker.broker.publisher import Publisher
from worker.broker.replies import Replies
from worker.broker.topology import declare_topology
from worker.broker.watchdog import Watchdog
from worker.broker.wire.channel import DirectChannel, open_channel
from worker.errors import BrokerUnusable, SessionLost


class Session:
    """Two connections, so that a blocked publisher or its channel error cannot stop settling."""

    def __init__(
        self,
        connections: tuple[Connection, ...],
        consuming: DirectChannel,
        publishing: DirectChannel,
        replies: Replies,
    ) -> None:
        self._connections = connections
        self._channels = (consuming, publishing)
        self.consumer = Consumer(consuming)
        self.publisher = Publisher(publishing)
        self._watchdog = Watchdog(consuming, self.consumer, connections[-1])
        self._replies = replies

    @classmethod
    async def open(
        cls, url: str, prefetch_count: int, *, slow_start: bool = True, may_be_blocked: bool = True
    ) -> Self:
        """Connect, declare what is missing, and begin to consume; for ``slow_start`` see Consumer.

        ``may_be_blocked`` is whether to begin even though an alarm blocks publishers.

        Raises BrokerUnusable when RabbitMQ cannot be reached or refuses (BrokerForbids with the
        permission that is missing), and TopologyDiffers when something exists with other arguments.
        """
        connections: list[Connection] = []
        try:
            connections.append(await connect(url, "consuming requests"))
            connections.append(await connect(url, "publishing events"))
            await declare_topology(connections[0])
            with translated_failures("opening channels", BrokerUnusable):
                consuming = await open_channel(connections[0], confirms=False)
                publishing = await open_channel(connections[1], confirms=True)
            await require_permissions(connections[1], may_be_blocked=may_be_blocked)
            session = cls(tuple(connections), consuming, publishing, Replies(url))
            with translated_access_refusal():
                await session.consumer.start(prefetch_count, slow_start=slow_start)
        except BaseException:
            await _close_all(connections)
            raise
        return session

    async def watch(self) -> Never:
        """Wait until any part of the session closes or stops working; raises SessionLost."""
        watchdog = asyncio.create_task(self._watchdog.watch())
        ends: list[asyncio.Future[Any]] = [channel.closing for channel in self._channels]
        ends += [asyncio.ensure_future(connection.closed()) for connection in self._connections]
        ends += [self.consumer.cancelled_by_broker, watchdog]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            watchdog.cancel()
        if self.consumer.cancelled_by_broker.done():
            raise SessionLost(f"the broker cancelled the consumer of {topology.REQUESTS}")
        reasons = [end.exception() for end in ends if end.done() and not end.cancelled()]
        reason = next((reason for reason in reasons if reason is not None), None)
        if isinstance(reason, SessionLost):
            raise reason
        raise SessionLost(f"the connection to RabbitMQ was lost: {explain(reason)}")

    async def publish(self, messages: Sequence[Message]) -> list[bool]:
        """Publish, and wait until each message is confirmed or refused; see Publisher."""
        return await self.publisher.publish(messages)

    async def send(self, messages: Sequence[Message]) -> None:
        """Send messages that may get lost; see Replies."""
        await self._replies.send(messages)

    async def close(self) -> None:
        """Close in order: once the broker has closed a channel, it has all of its acknowledgements.

        Takes at most CLOSE_TIMEOUT_SECONDS for the channels, and as much for the connections.
        """
        try:
            with translated_failures("closing the channels"):
                async with asyncio.timeout(CLOSE_TIMEOUT_SECONDS):
                    for channel in self._channels:
                        if not channel.is_closed:
                            await channel.close()
        except SessionLost:
            pass  # Then the acknowledgements are lost already, and the deliveries come again.
        await asyncio.gather(self._replies.close(), _close_all(self._connections))


async def _close_all(connections: Iterable[Connection]) -> None:
    await asyncio.gather(*(close_connection(connection) for connection in connections))
