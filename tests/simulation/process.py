"""A worker process: the real ``Worker`` of the service, on simulated servers, in simulated time.

Owns how the worker is assembled here, and what can happen to a process: it is killed at any await,
paused for minutes, or asked to stop. A restart is another object.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from asyncio import events
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar, copy_context
from dataclasses import dataclass
from typing import Any, Final, Self, cast
from unittest.mock import patch

import tenacity._utils

import worker.service.runtime
from tests.simulation.connection import SimulatedConnection
from tests.simulation.evidence import Published
from tests.simulation.loop import OWNER, SimulatedLoop
from tests.simulation.mongod import Mongod
from tests.simulation.rabbit import Rabbit
from tests.simulation.store import SimulatedStore
from tests.simulation.world import World
from worker.broker.messages import Message
from worker.broker.session import Session
from worker.errors import BrokerUnusable, WorkerError, causes
from worker.service.recording import Recorder
from worker.settings import Settings

DRAIN_SECONDS: Final = 25
SILENCE_SECONDS: Final = 25
"""The broker closes a connection after a little more than two heartbeats of silence."""


class SimulatedReplies:
    """Copies of events for reply addresses; they may get lost, and nothing waits for them."""

    def __init__(self, process: Process) -> None:
        self._process = process

    async def send(self, messages: Sequence[Message]) -> None:
        """Send them, without waiting for confirmation."""
        if self._process.is_dead:
            return
        world = self._process.world
        for message in messages:
            world.incidents["reply"] += 1
            published = Published(
                world.now_seconds,
                message.exchange,
                message.routing_key,
                message.message_id,
                message.headers,
                message.body,
            )
            world.after(0, world.record, published)

    async def close(self) -> None:
        """There is nothing to close."""


class SimulatedSession(Session):
    """The real session, on simulated connections."""

    @classmethod
    async def open(
        cls,
        _url: str,
        prefetch_count: int,
        *,
        slow_start: bool = True,
        may_be_blocked: bool = True,  # noqa: ARG003  # There are no alarms here.
    ) -> Self:
        """Connect and start consuming; raises BrokerUnusable."""
        process = PROCESS.get()
        process.world.incidents["session opened"] += 1
        await asyncio.sleep(process.world.latency_seconds())
        connections = process.connect(), process.connect()
        channels = [connection.channel for connection in connections]
        parts: Any = (connections, *channels, SimulatedReplies(process))
        session = cls(*parts)
        try:
            await session.consumer.start(prefetch_count, slow_start=slow_start)
        except BaseException:
            for connection in connections:
                await connection.close()
            raise
        return session


@dataclass(frozen=True, slots=True)
class Parts:
    """What a worker is assembled from; mutations replace a part."""

    store: type[SimulatedStore] = SimulatedStore
    session: type[SimulatedSession] = SimulatedSession
    replaced: tuple[tuple[object, str, object], ...] = ()
    """Object, attribute and value of anything else to replace with ``unittest.mock.patch``."""


class Process:
    """One worker process, from its start to its end."""

    def __init__(
        self, world: World, mongod: Mongod, rabbit: Rabbit, name: str, parts: Parts
    ) -> None:
        self.world = world
        self.name = name
        self.is_dead = False
        self.crash_countdown = 0
        """The process dies after this many more messages to a server; 0: it does not."""
        self.failure: BaseException | None = None
        self._rabbit = rabbit
        self._store = parts.store(world, mongod, self)
        self._connections: list[SimulatedConnection] = []
        self._stop = asyncio.Event()
        self.running: asyncio.Task[None]

    def start(self, batch_size: int, on_end: Callable[[Process], object]) -> None:
        """Run it, and call ``on_end`` when it has ended, for whatever reason."""
        settings = Settings.model_construct(
            batch_size=batch_size, drain_seconds=float(DRAIN_SECONDS)
        )
        context = copy_context()
        context.run(OWNER.set, self)
        context.run(PROCESS.set, self)
        self.running = self.world.loop.create_task(self._run(settings), context=context)
        self.running.add_done_callback(lambda _: on_end(self), context=self.world.outside)

    async def _run(self, settings: Settings) -> None:
        try:
            await worker.service.runtime.Worker(settings, cast(Any, self._store), self._stop).run()
        except Exception as failure:  # noqa: BLE001  # Becomes a finding of the simulation.
            if not all(isinstance(cause, WorkerError) for cause in causes(failure)):
                self.failure = failure
        finally:
            self._end()

    def _end(self) -> None:
        self.is_dead = True
        for connection in self._connections:
            connection.drop()
        self._store.kill()

    def on_send(self) -> None:
        """Count a message that leaves the process; it may be the last."""
        if self.crash_countdown:
            self.crash_countdown -= 1
            if not self.crash_countdown:
                self.world.after(self.world.latency_seconds(), self.kill)

    def connect(self) -> SimulatedConnection:
        """Open a connection to the broker; raises BrokerUnusable."""
        if self.is_dead or not self._rabbit.is_up:
            raise BrokerUnusable("connection refused")
        connection = SimulatedConnection(self.world, self._rabbit, self)
        self._connections = [c for c in self._connections if c.is_open] + [connection]
        return connection

    def connections(self) -> list[SimulatedConnection]:
        """The connections that the process believes to be open."""
        return [connection for connection in self._connections if connection.is_open]

    def kill(self) -> None:
        """End it at once, between one step and the next."""
        if not self.is_dead:
            self.world.incident("crash", self.name)
            self._end()
            self.running.cancel()
            self.world.loop.resume(self)

    def pause(self, seconds: float) -> None:
        """Run nothing of it for so long."""
        self.world.incident("pause", f"{self.name} for {seconds} s")
        self.world.loop.pause(self)
        if seconds > SILENCE_SECONDS:
            self.world.after(SILENCE_SECONDS, self._close_for_silence)
        self.world.after(seconds, self.world.loop.resume, self)

    def _close_for_silence(self) -> None:
        if self.world.loop.is_paused(self):
            self.world.incident("connection closed for silence")
            for connection in self.connections():
                connection.lose("missed heartbeats")

    def stop(self) -> None:
        """Ask it to stop gracefully."""
        self._stop.set()


PROCESS: Final[ContextVar[Process]] = ContextVar("PROCESS")


@contextmanager
def simulated_workers(parts: Parts, *, is_traced: bool) -> Iterator[None]:
    """Let workers use simulated time, randomness and sessions inside this context."""
    chance = random.getstate()
    with ExitStack() as stack:
        stack.callback(random.setstate, chance)
        stack.callback(logging.disable, logging.root.manager.disable)
        if not is_traced:
            logging.disable(logging.CRITICAL)
        for target, name, value in (
            (time, "monotonic", _monotonic),
            (tenacity._utils, "is_coroutine_callable", _is_coroutine_callable),
            (worker.service.runtime, "Session", parts.session),
            (worker.service.runtime, "Recorder", _recorder),
            *parts.replaced,
        ):
            stack.enter_context(patch.object(target, name, value))
        yield


def _recorder(*arguments: Any, **options: Any) -> Recorder:  # noqa: ANN401  # As in the runtime.
    world = PROCESS.get().world
    chance = random.Random(world.chance.random())
    return Recorder(*arguments, **options, clock=world.clock, chance=chance)


_REAL_MONOTONIC: Final = time.monotonic


def _monotonic() -> float:
    """The time of the world whose loop is running; else the real time."""
    loop = events._get_running_loop()
    return loop.time() if isinstance(loop, SimulatedLoop) else _REAL_MONOTONIC()


_REAL_IS_COROUTINE_CALLABLE: Final = tenacity._utils.is_coroutine_callable


def _is_coroutine_callable(called: Callable[..., object]) -> bool:
    """Cached, as tenacity asks it of the same few functions again and again, and it is slow."""
    kind = getattr(called, "__code__", type(called))
    if kind not in _IS_COROUTINE:
        _IS_COROUTINE[kind] = _REAL_IS_COROUTINE_CALLABLE(called)
    return _IS_COROUTINE[kind]


_IS_COROUTINE: Final[dict[object, bool]] = {}
