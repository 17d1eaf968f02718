"""Declares the topology: what is missing is created, what differs is reported.

A user who may not declare can still work with what another user has declared. Then only its
existence is checked, because RabbitMQ compares arguments only for a user who may declare. From
RabbitMQ 4.3 on it does not even say whether something exists on which a user has no permission;
what a session needs of it shows when its permissions are checked, and when it consumes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from aio_pika.abc import AbstractChannel, AbstractConnection
from aiormq.exceptions import (
    ChannelAccessRefused,
    ChannelNotFoundEntity,
    ChannelPreconditionFailed,
)

from contracts import topology
from worker.broker.client_failures import translated_failures
from worker.errors import BrokerForbids, BrokerUnusable, TopologyDiffers

log: Final = logging.getLogger(__name__)

RPC_TIMEOUT_SECONDS: Final = 10
"""For one declaration; a quorum queue is created in well under a second once its cluster is up."""

Declaration = Callable[[AbstractChannel], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class _Entity:
    """An exchange or a queue: how to declare it, and how to check that it exists."""

    name: str
    declare: Declaration
    check: Declaration


@dataclass(slots=True)
class _Report:
    """What differs, what is missing and what this user may not see, of all entities."""

    differences: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unseen: list[str] = field(default_factory=list)
    may_declare: bool = True


async def declare_topology(connection: AbstractConnection) -> None:
    """Declare every exchange and queue of the contract, as far as this user may.

    Raises TopologyDiffers with everything that exists with other arguments, in the broker's own
    words, BrokerForbids with everything that is missing and may not be declared by this user, and
    BrokerUnusable when a declaration is not possible.
    """
    report = _Report()
    for exchange in topology.EXCHANGES:
        await _ensure(connection, _exchange(exchange), report)
    for queue in topology.QUEUES:
        await _ensure(connection, _queue(queue), report)
    if report.differences:
        raise TopologyDiffers(
            f"{'; '.join(report.differences)}. Nothing was changed: delete or rename what differs, "
            "or give the worker a virtual host of its own, and start it again"
        )
    if report.missing:
        raise BrokerForbids(
            f"{', '.join(report.missing)} not there, and this RabbitMQ user may not declare: start "
            "a worker once as a user with configure, write and read on '^reservations\\.'"
        )
    if not report.may_declare:
        log.info("this user may not declare, so the topology is used as it is")
    if report.unseen:
        log.info("this user may not see whether these exist: %s", ", ".join(report.unseen))


async def _ensure(connection: AbstractConnection, entity: _Entity, report: _Report) -> None:
    """Declare an entity; but once a declaration was refused, only if it does not exist."""
    try:
        exists = False if report.may_declare else await _exists(connection, entity)
        if exists is None:
            report.unseen.append(entity.name)
        elif not exists:
            await _on_own_channel(connection, entity.declare)
    except BrokerUnusable as failure:
        match failure.__cause__:
            case ChannelPreconditionFailed():
                report.differences.append(str(failure.__cause__))
            case ChannelAccessRefused() if report.may_declare:
                report.may_declare = False
                await _ensure(connection, entity, report)
            case ChannelAccessRefused():
                report.missing.append(entity.name)
            case _:
                raise


async def _exists(connection: AbstractConnection, entity: _Entity) -> bool | None:
    """Whether an entity exists; None if this user may not know, as from RabbitMQ 4.3 on."""
    try:
        await _on_own_channel(connection, entity.check)
    except BrokerUnusable as failure:
        match failure.__cause__:
            case ChannelNotFoundEntity():
                return False
            case ChannelAccessRefused():
                return None
        raise
    return True


async def _on_own_channel(connection: AbstractConnection, declaration: Declaration) -> None:
    """Declare on a channel of its own, because a refused declaration closes its channel."""
    with translated_failures("declaring the topology", BrokerUnusable):
        # Opening the channel has no timeout of its own.
        async with asyncio.timeout(RPC_TIMEOUT_SECONDS), connection.channel() as channel:
            await declaration(channel)


def _exchange(exchange: topology.Exchange) -> _Entity:
    async def declare(channel: AbstractChannel) -> None:
        await channel.declare_exchange(
            exchange.name,
            exchange.type,
            durable=True,
            arguments=dict(exchange.arguments),
            timeout=RPC_TIMEOUT_SECONDS,
        )

    async def check(channel: AbstractChannel) -> None:
        await channel.declare_exchange(exchange.name, passive=True, timeout=RPC_TIMEOUT_SECONDS)

    return _Entity(f"exchange {exchange.name}", declare, check)


def _queue(queue: topology.Queue) -> _Entity:
    async def declare(channel: AbstractChannel) -> None:
        declared = await channel.declare_queue(
            queue.name, durable=True, arguments=dict(queue.arguments), timeout=RPC_TIMEOUT_SECONDS
        )
        await declared.bind(queue.name, queue.binding_key, timeout=RPC_TIMEOUT_SECONDS)

    async def check(channel: AbstractChannel) -> None:
        await channel.declare_queue(queue.name, passive=True, timeout=RPC_TIMEOUT_SECONDS)

    return _Entity(f"queue {queue.name}", declare, check)
