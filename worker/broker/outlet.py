"""A connection that only publishes, for commands: one that is confirmed message by message."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from worker.broker.client_failures import translated_failures
from worker.broker.connection import close_connection, connect
from worker.broker.publisher import Publisher
from worker.broker.wire.channel import RPC_TIMEOUT_SECONDS, open_channel
from worker.errors import BrokerUnusable


@asynccontextmanager
async def outlet(url: str, exchange: str, purpose: str) -> AsyncGenerator[Publisher]:
    """A publisher to this exchange, which must exist; raises BrokerUnusable."""
    connection = await connect(url, purpose)
    try:
        with translated_failures(
            f"{exchange} is not ready, start a worker once to have it declared", BrokerUnusable
        ):
            channel = await open_channel(connection, confirms=True)
            await channel.exchange_declare(exchange, passive=True, timeout=RPC_TIMEOUT_SECONDS)
        yield Publisher(channel)
    finally:
        await close_connection(connection)
