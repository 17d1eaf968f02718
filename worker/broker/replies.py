"""Sends the copies of events that requests asked for, apart from everything that must not fail.

A reply is a courtesy: its queue may be gone or full, the worker may not be allowed to write to the
default exchange, or the address may be forged so that the broker closes the connection. None of
that may affect or delay an event. So replies have a connection of their own, which is opened for
the first of them, and a failure of it is logged and otherwise ignored.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Final

from aiormq.abc import ChannelFrame

from worker.broker.client_failures import explain, translated_failures
from worker.broker.connection import Connection, close_connection, connect
from worker.broker.messages import Message
from worker.broker.wire.channel import DirectChannel, open_channel
from worker.broker.wire.encoding import publish_frames
from worker.errors import BrokerUnusable

log: Final = logging.getLogger(__name__)

SEND_TIMEOUT_SECONDS: Final = 2
"""A broker that blocks publishers accepts no replies either, and the next batch is waiting."""
REOPEN_SECONDS: Final = 1
"""The least time between two attempts to open the connection."""


class Replies:
    """Publishes without confirms."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: Connection | None = None
        self._channel: DirectChannel | None = None
        self._opened_seconds = -float("inf")

    async def send(self, messages: Sequence[Message]) -> None:
        """Send what can be sent; never raises for what the broker or the network does."""
        if not messages:
            return
        try:
            async with asyncio.timeout(SEND_TIMEOUT_SECONDS):
                with translated_failures("sending replies"):
                    await self._send(messages)
        except (BrokerUnusable, TimeoutError) as failure:
            log.warning("%d replies may not have arrived: %s", len(messages), failure)
            await self.close()

    async def close(self) -> None:
        """Close the connection, if there is one."""
        connection, self._connection, self._channel = self._connection, None, None
        if connection is not None:
            await close_connection(connection)

    async def _send(self, messages: Sequence[Message]) -> None:
        channel = await self._open()
        payload = b"".join(
            publish_frames(channel.number, channel.max_content_size, message)
            for message in messages
        )
        await channel.write_queue.put(ChannelFrame(payload, should_close=False))

    async def _open(self) -> DirectChannel:
        if self._channel is not None and not self._channel.is_closed:
            return self._channel
        if self._channel is not None:
            # Replies are not confirmed, so that one was refused shows only here.
            log.warning("replies did not arrive: %s", _reason(self._channel))
        await self.close()
        now = time.monotonic()
        if now - self._opened_seconds < REOPEN_SECONDS:
            raise BrokerUnusable("the connection for replies was closed a moment ago")
        self._opened_seconds = now
        self._connection = await connect(self._url, "sending replies")
        self._channel = await open_channel(self._connection, confirms=False)
        return self._channel


def _reason(channel: DirectChannel) -> str:
    closing = channel.closing
    return explain(None if closing.cancelled() else closing.exception())
