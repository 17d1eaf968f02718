"""Checks the permissions that a session needs, before the first request is consumed.

RabbitMQ refuses a message only once it is published, by closing the channel. For a worker that
would be in the middle of its first batch, and of every batch after it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from aiormq.exceptions import ChannelAccessRefused

from contracts import topology
from worker.broker.client_failures import translated_failures
from worker.broker.connection import Connection
from worker.broker.wire.channel import open_channel
from worker.errors import BrokerForbids, BrokerUnusable, SessionLost

ANSWER_TIMEOUT_SECONDS: Final = 5
"""A broker under an alarm reads nothing from publishers; then a refusal can show only later."""

PUBLISHED_TO: Final = (topology.EVENTS, topology.DEAD_LETTERS)

ROUTING_KEY: Final = topology.event_routing_key("confirmed", None)
"""Like an event's, for a broker with topic permissions."""

GRANT: Final = (
    "rabbitmqctl set_permissions -p VHOST USER "
    r"'^$' '^(amq\.default|reservations\.(events|dead-letters))$' '^reservations\.requests$'"
)
"""The least that suffices; replies go to amq.default."""


async def require_permissions(connection: Connection, *, may_be_blocked: bool) -> None:
    """Raises BrokerForbids with every exchange that this user may not publish to.

    Also shows whether an alarm blocks publishers, which raises BrokerUnusable unless the
    connection ``may_be_blocked``. Every channel that is needed must be open before.
    """
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT_SECONDS):
            refused = [name for name in PUBLISHED_TO if not await _may_publish(connection, name)]
    except TimeoutError:
        if may_be_blocked:
            return
        raise BrokerUnusable(
            f"RabbitMQ has not answered for {ANSWER_TIMEOUT_SECONDS} s on the connection that "
            "publishes: a memory or disk alarm blocks it"
        ) from None
    if refused:
        raise BrokerForbids(missing_permission("write", refused))


def missing_permission(permission: str, names: list[str]) -> str:
    """Which permission is missing, and the command that grants it."""
    return f"this RabbitMQ user lacks {permission} on {', '.join(names)}: {GRANT}"


@contextmanager
def translated_access_refusal() -> Iterator[None]:
    """Raise BrokerForbids, which names the missing permission, for a refused consumer."""
    try:
        yield
    except SessionLost as failure:
        if isinstance(failure.__cause__, ChannelAccessRefused):
            raise BrokerForbids(missing_permission("read", [topology.REQUESTS])) from failure
        raise


async def _may_publish(connection: Connection, exchange: str) -> bool:
    """Publish in a transaction that is rolled back: checked like any other, but never routed."""
    try:
        with translated_failures(f"publishing to {exchange}", BrokerUnusable):
            channel = await open_channel(connection, confirms=False)
            await channel.tx_select()
            await channel.basic_publish(b"", exchange=exchange, routing_key=ROUTING_KEY, wait=False)
            await channel.tx_rollback()
            await channel.close()
    except BrokerUnusable as failure:
        if isinstance(failure.__cause__, ChannelAccessRefused):
            return False
        raise
    return True
