"""A session with the broker: one pair of connections, and everything that lives as long as they do.

Crash-only: whatever closes a connection or a channel ends the session, what was unsettled is
delivered again, and the runtime opens a new one. aio-pika's robust connection is not used, because
its recovery can leave a consumer silently gone.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final, Never, Self

import aio_pika
from aio_pika.abc import AbstractConnection
from yarl import URL

from contracts import topology
from worker.broker.channels import DirectChannel, open_channel
from worker.broker.declaring import declare_topology
from worker.broker.failures import explain, translated_failures
from worker.broker.publishing import Publisher
from worker.broker.taking import Deliveries
from worker.broker.tolerance import TolerantConnection
from worker.errors import BrokerUnusable, SessionLost
from worker.settings import without_password

CONNECT_TIMEOUT_SECONDS: Final = 10
CLOSE_TIMEOUT_SECONDS: Final = 5
HEARTBEAT_SECONDS: Final = 10
"""A silent peer is given up after three of them."""


class Session:
    """Two connections, so that a blocked publisher or its channel error cannot stop settling."""

    def __init__(
        self,
        connections: tuple[AbstractConnection, ...],
        taking: DirectChannel,
        publishing: DirectChannel,
    ) -> None:
        self._connections = connections
        self._channels = (taking, publishing)
        self.deliveries = Deliveries(taking)
        self.publisher = Publisher(publishing)

    @classmethod
    async def open(cls, url: str, prefetch_count: int) -> Self:
        """Connect, declare what is missing, and begin to consume.

        Raises BrokerUnusable when RabbitMQ cannot be reached or refuses, TopologyDiffers when
        something of the same name exists with other arguments.
        """
        connections: list[AbstractConnection] = []
        try:
            connections.append(await connect(url, "taking requests"))
            connections.append(await connect(url, "publishing events"))
            await declare_topology(connections[0])
            with translated_failures("opening channels", BrokerUnusable):
                taking = await open_channel(connections[0], confirms=False)
                publishing = await open_channel(connections[1], confirms=True)
            session = cls(tuple(connections), taking, publishing)
            await session.deliveries.start(prefetch_count)
        except BaseException:
            await _close_all(connections)
            raise
        return session

    async def watch(self) -> Never:
        """Wait until anything of the session closes, and raise SessionLost with the cause."""
        ends: list[asyncio.Future[Any]] = [channel.closing for channel in self._channels]
        ends += [asyncio.ensure_future(connection.closed()) for connection in self._connections]
        ends.append(self.deliveries.cancelled_by_broker)
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if self.deliveries.cancelled_by_broker.done():
            raise SessionLost(f"the broker cancelled the consumer of {topology.REQUESTS}")
        reasons = [end.exception() for end in ends if end.done() and not end.cancelled()]
        reason = next((reason for reason in reasons if reason is not None), None)
        raise SessionLost(f"the connection to RabbitMQ was lost: {explain(reason)}")

    async def close(self) -> None:
        """Close in order: a closed channel has had all its acknowledgements taken by the broker."""
        for channel in self._channels:
            if not channel.is_closed:
                try:
                    with translated_failures("closing a channel"):
                        await asyncio.wait_for(channel.close(), CLOSE_TIMEOUT_SECONDS)
                except SessionLost:
                    break
        await _close_all(self._connections)


async def connect(url: str, purpose: str) -> AbstractConnection:
    """Connect; the broker's operators see the connection's purpose. Raises BrokerUnusable."""
    target = URL(url)
    if "heartbeat" not in target.query:
        target = target.update_query(heartbeat=str(HEARTBEAT_SECONDS))
    with translated_failures(f"RabbitMQ at {without_password(url)}", BrokerUnusable):
        return await aio_pika.connect(
            target,
            timeout=CONNECT_TIMEOUT_SECONDS,
            client_properties={"connection_name": f"reservation-worker: {purpose}"},
            connection_class=TolerantConnection,
        )


async def _close_all(
    connections: tuple[AbstractConnection, ...] | list[AbstractConnection],
) -> None:
    closing = (
        asyncio.wait_for(connection.close(), CLOSE_TIMEOUT_SECONDS) for connection in connections
    )
    await asyncio.gather(*closing, return_exceptions=True)
