"""Declaring the topology: what is missing is made, what differs is reported."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from aio_pika.abc import AbstractChannel, AbstractConnection
from aio_pika.exceptions import ChannelPreconditionFailed

from contracts import topology
from worker.broker.failures import translated_failures
from worker.errors import BrokerUnusable, TopologyDiffers

RPC_TIMEOUT_SECONDS: Final = 10
"""For one declaration; a quorum queue is made in well under a second once its cluster is up."""

Declaration = Callable[[AbstractChannel], Awaitable[object]]


async def declare_topology(connection: AbstractConnection) -> None:
    """Declare every exchange and queue of the contract.

    Raises TopologyDiffers with everything that exists with other arguments, in the broker's own
    words, and BrokerUnusable when a declaration is not possible or not permitted.
    """
    differences = []
    steps: list[Declaration] = [_exchange(exchange) for exchange in topology.EXCHANGES]
    steps += [_queue(queue) for queue in topology.QUEUES]
    for step in steps:
        try:
            with translated_failures("declaring the topology", BrokerUnusable):
                await _declare(connection, step)
        except BrokerUnusable as failure:
            if not isinstance(failure.__cause__, ChannelPreconditionFailed):
                raise
            differences.append(str(failure.__cause__))
    if differences:
        raise TopologyDiffers(
            f"{'; '.join(differences)}. Nothing was changed: delete or rename what differs, or "
            "give the worker a virtual host of its own, and start it again"
        )


async def _declare(connection: AbstractConnection, step: Declaration) -> None:
    """In a channel of its own, because a refused declaration closes its channel."""
    async with connection.channel() as channel:
        await step(channel)


def _exchange(exchange: topology.Exchange) -> Declaration:
    async def declare(channel: AbstractChannel) -> None:
        await channel.declare_exchange(
            exchange.name,
            exchange.type,
            durable=True,
            arguments=dict(exchange.arguments),
            timeout=RPC_TIMEOUT_SECONDS,
        )

    return declare


def _queue(queue: topology.Queue) -> Declaration:
    async def declare(channel: AbstractChannel) -> None:
        declared = await channel.declare_queue(
            queue.name, durable=True, arguments=dict(queue.arguments), timeout=RPC_TIMEOUT_SECONDS
        )
        await declared.bind(queue.name, queue.binding_key, timeout=RPC_TIMEOUT_SECONDS)

    return declare
