"""A channel to the simulated broker, as the worker's own broker code uses it.

Stands in for aiormq's channel, and raises what aiormq raises, so that the real ``Consumer``,
``Publisher`` and ``Session`` run on it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Final, Protocol, cast

from aiormq.exceptions import ChannelInvalidStateError, ConnectionClosed
from pamqp.commands import Basic

from tests.simulation.rabbit import Queued
from worker.broker.wire.decoding import Confirmation, DeliveredMessage, Properties


class Sender(Protocol):
    """The connection that the channel is on."""

    def send(self, *item: object) -> None: ...
    async def rpc(self, *item: object, timeout: float | None = None) -> object: ...  # noqa: ASYNC109


class SimulatedChannel:
    """The part of ``worker.broker.wire.channel.DirectChannel`` that the worker uses."""

    number: Final = 1
    max_content_size: Final = 131_064

    def __init__(self, connection: Sender) -> None:
        self._connection = connection
        self._prefetch = 0
        self.is_closed = False
        self.closing: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.on_consumer_cancel_callbacks: set[Callable[[Basic.Cancel], object]] = set()
        self.on_delivery: Callable[[DeliveredMessage], None]
        self.on_confirmation: Callable[[Confirmation], None]
        self.on_return: Callable[[str], None]
        self.write_queue = SimpleNamespace(put=self._write)

    async def _write(self, frame: Any) -> None:  # noqa: ANN401  # aiormq's ChannelFrame.
        self._connection.send("publish", frame.payload)

    async def basic_qos(self, *, prefetch_count: int, timeout: float | None = None) -> None:  # noqa: ASYNC109
        """Limit the number of unsettled deliveries."""
        self._prefetch = prefetch_count
        await self._connection.rpc("qos", timeout=timeout)

    async def consume(
        self, _queue: str, on_delivery: Callable[[DeliveredMessage], None], *, no_ack: bool = False
    ) -> str:
        """Start consuming the queue of requests."""
        assert not no_ack, "a request that is not acknowledged is lost with the process"
        self.on_delivery = on_delivery
        await self._connection.rpc("consume", self._prefetch, timeout=10)
        return "consumer"

    async def basic_cancel(self, _consumer_tag: str, *, timeout: float | None = None) -> None:  # noqa: ASYNC109
        """Stop consuming."""
        await self._connection.rpc("cancel", timeout=timeout)

    async def basic_ack(self, tag: int, *, multiple: bool = False, **_: bool) -> None:
        """Acknowledge a delivery, or all up to it."""
        self._send("ack", tag, multiple)

    async def basic_reject(self, tag: int, *, requeue: bool, **_: bool) -> None:
        """Return a failed delivery."""
        assert requeue, "a request that is not requeued is lost"
        self._send("reject", tag)

    async def basic_nack(self, tag: int, *, multiple: bool, requeue: bool, **_: bool) -> None:
        """Hand back deliveries that were not worked on."""
        assert multiple, "the worker hands back everything at once"
        assert requeue, "a request that is not requeued is lost"
        self._send("hand back", tag)

    async def queue_declare(
        self,
        _queue: str,
        *,
        passive: bool,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> Any:  # noqa: ANN401
        """Count the requests in the queue, and its consumers."""
        assert passive, "a simulated queue cannot be declared"
        waiting, consumers = cast(
            tuple[int, int], await self._connection.rpc("count", timeout=timeout)
        )
        return SimpleNamespace(message_count=waiting, consumer_count=consumers)

    async def close(self) -> None:
        """Close it, and wait for the broker to confirm that."""
        await self._connection.rpc("close")
        self.end(None)

    def _send(self, *item: object) -> None:
        if self.is_closed:
            raise ChannelInvalidStateError("closed")
        self._connection.send(*item)

    def deliver(self, tag: int, queued: Queued) -> None:
        """Pass on a delivery from the broker."""
        headers = {"x-delivery-count": queued.failures} if queued.failures else None
        properties = Properties(headers=headers, reply_to=queued.reply_to)
        self.on_delivery(DeliveredMessage(tag, queued.is_redelivered, "", properties, queued.body))

    def end(self, failure: ConnectionClosed | None) -> None:
        """Mark the channel as closed."""
        self.is_closed = True
        if not self.closing.done():
            if failure is None:
                self.closing.set_result(None)
            else:
                self.closing.set_exception(failure)
                self.closing.exception()
