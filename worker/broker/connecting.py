"""Opening and closing connections, with what every one of them needs."""

from __future__ import annotations

import asyncio
from typing import Final

import aio_pika
from aio_pika.abc import AbstractConnection
from yarl import URL

from worker.broker.failures import translated_failures
from worker.broker.tolerance import TolerantConnection
from worker.errors import BrokerUnusable
from worker.settings import without_password

CONNECT_TIMEOUT_SECONDS: Final = 10
CLOSE_TIMEOUT_SECONDS: Final = 2
HEARTBEAT_SECONDS: Final = 10
"""A silent peer is given up after three of them."""


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


async def close_connection(connection: AbstractConnection) -> None:
    """Close it, within CLOSE_TIMEOUT_SECONDS and whatever state it is in."""
    closing = asyncio.wait_for(connection.close(), CLOSE_TIMEOUT_SECONDS)
    await asyncio.gather(closing, return_exceptions=True)
