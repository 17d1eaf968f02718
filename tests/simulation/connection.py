"""A worker's connection to the simulated broker: a wire in each direction, with one channel.

Each direction preserves order, has latency, and loses what is in flight when the connection is
lost. The two ends need not notice that at the same time.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable
from contextvars import Context, copy_context
from typing import Any, Final

from aiormq.exceptions import ChannelInvalidStateError, ConnectionClosed
from pamqp.commands import Basic

from tests.simulation.channel import SimulatedChannel
from tests.simulation.rabbit import Rabbit
from tests.simulation.roundtrip import Client
from tests.simulation.world import World
from worker.broker.wire.decoding import Confirmation

UNNOTICED_SECONDS_MAX: Final = 30
"""A dead peer is noticed after three heartbeats of 10 s."""
UNNOTICED_SHARE: Final = 0.2

Item = tuple[Any, ...]


class Wire:
    """One direction of a connection: first in, first out, with latency."""

    def __init__(
        self, world: World, handle: Callable[[Item], object], context: Context | None
    ) -> None:
        self._world = world
        self._handle = handle
        self._context = context
        self._in_flight: deque[Item] = deque()
        self.is_cut = False

    def send(self, item: Item) -> None:
        """Send an item to the other end."""
        self._in_flight.append(item)
        delay = self._world.latency_seconds()
        self._world.loop.call_later(delay, self._arrive, context=self._context)

    def _arrive(self) -> None:
        # Whichever timer fires first, items arrive in the order they were sent.
        item = self._in_flight.popleft()
        if not self.is_cut:
            self._handle(item)


class SimulatedConnection:
    """A connection of a worker, with its one ``channel``."""

    heartbeat_seconds: Final = 10

    def __init__(self, world: World, rabbit: Rabbit, client: Client) -> None:
        self._world = world
        self._rabbit = rabbit
        self._client = client
        self._up = Wire(world, self._on_worker_item, world.outside)
        self._down = Wire(world, self._on_broker_item, copy_context())
        self._lost_seconds = math.inf
        self._received = 0
        self._closed: asyncio.Future[None] = world.loop.create_future()
        self._rpcs: deque[asyncio.Future[object]] = deque()
        self._server_channel = rabbit.open(client.name, lambda *item: self._down.send(item))
        self.channel = SimulatedChannel(self)

    # ---- the worker's end ----------------------------------------------------------------------

    def send(self, *item: object) -> None:
        """Send something to the broker."""
        if self._client.is_dead:
            return
        self._client.on_send()
        self._up.send(item)

    async def rpc(self, *item: object, timeout: float | None = None) -> object:  # noqa: ASYNC109
        """Send something, and wait for the broker's answer."""
        if self.channel.is_closed:
            raise ChannelInvalidStateError("closed")
        answer: asyncio.Future[object] = self._world.loop.create_future()
        self._rpcs.append(answer)
        self.send(*item)
        try:
            async with asyncio.timeout(timeout):
                return await answer
        except (asyncio.CancelledError, TimeoutError):
            # aiormq closes a channel when an RPC on it is abandoned.
            self.send("gone")
            self.channel.end(ConnectionClosed(320, "an RPC was abandoned"))
            raise

    @property
    def is_open(self) -> bool:
        """Whether the worker believes it to be open."""
        return not self._closed.done()

    async def closed(self) -> None:
        """Wait until the worker sees it closed."""
        await asyncio.shield(self._closed)

    async def close(self) -> None:
        """Close it without waiting for the broker."""
        self.send("gone")
        self._end(None)

    def _on_broker_item(self, item: Item) -> None:
        """Handle an item from the broker."""
        self._received += 1
        match item:
            case ("deliver", *delivery):
                self.channel.deliver(*delivery)
            case ("confirm", tag, multiple, is_refused):
                self.channel.on_confirmation(Confirmation(tag, multiple, not is_refused))
            case ("answer", result):
                answer = self._rpcs.popleft()
                if not answer.done():
                    answer.set_result(result)
            case ("cancelled",):
                for callback in self.channel.on_consumer_cancel_callbacks:
                    callback(Basic.Cancel(consumer_tag="", nowait=True))
            case ("closed", why):
                self.channel.end(ConnectionClosed(320, why))
                self._fail_rpcs(why)
            case ("lost", why):
                self._end(ConnectionClosed(320, why))

    def _end(self, failure: ConnectionClosed | None) -> None:
        self._down.is_cut = True
        self.channel.end(failure)
        self._fail_rpcs("closed")
        if not self._closed.done():
            self._closed.set_result(None)

    def _fail_rpcs(self, why: str) -> None:
        while self._rpcs:
            answer = self._rpcs.popleft()
            if not answer.done():
                answer.set_exception(ConnectionClosed(320, why))

    # ---- the broker's end ----------------------------------------------------------------------

    def _on_worker_item(self, item: Item) -> None:
        """Handle an item from the worker."""
        channel, rabbit = self._server_channel, self._rabbit
        match item:
            case ("publish", payload):
                rabbit.publish(channel, payload)
            case ("ack", tag, multiple):
                rabbit.acknowledge(channel, tag, multiple=multiple)
            case ("reject", tag):
                rabbit.reject(channel, tag)
            case ("hand back", tag):
                rabbit.hand_back(channel, tag)
            case ("gone",):
                rabbit.close(channel)
            case _ if channel.is_open:
                self._down.send(("answer", self._answer(item)))

    def _answer(self, question: Item) -> object:
        channel, rabbit = self._server_channel, self._rabbit
        match question:
            case ("count",):
                return rabbit.counts()
            case ("consume", prefetch):
                rabbit.consume(channel, prefetch)
            case ("cancel",):
                rabbit.cancel(channel)
            case ("close",):
                rabbit.close(channel)
        return None

    @property
    def demultiplexer(self) -> SimulatedConnection:
        """What counts the frames received, which here is the connection itself."""
        return self

    @property
    def heard_count(self) -> int:
        """How many frames the broker has sent, with two heartbeats in each interval."""
        alive_seconds = min(self._world.now_seconds, self._lost_seconds)
        return self._received + int(alive_seconds * 2 / self.heartbeat_seconds)

    def lose(self, why: str) -> None:
        """Break it: the broker notices now, the worker perhaps much later."""
        self._lost_seconds = self._world.now_seconds
        self._up.is_cut = True
        self._rabbit.close(self._server_channel)
        delay = 0.0
        if self._world.comes(UNNOTICED_SHARE):
            delay = UNNOTICED_SECONDS_MAX * self._world.chance.random()
            self._down.is_cut = True
        self._world.after(delay, self._send_lost, why)

    def _send_lost(self, why: str) -> None:
        self._down.is_cut = False
        self._down.send(("lost", why))

    def drop(self) -> None:
        """End it with the worker's process; what was sent before may still arrive."""
        self._up.send(("gone",))
        self._end(None)

    def close_with_error(self, why: str) -> None:
        """Let the broker close the channel."""
        self._rabbit.close_with_error(self._server_channel, why)

    def cancel_consumer(self) -> None:
        """Let the broker cancel the consumer, as when the queue moves or is deleted."""
        self._rabbit.cancel(self._server_channel)
        self._server_channel.send("cancelled")
