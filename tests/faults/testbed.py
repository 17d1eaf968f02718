"""Where the faults happen: three MongoDB members, a RabbitMQ, three workers, and all wires.

Owns the servers, the workers and the proxies between them. Publishers and subscriber reach
RabbitMQ directly: what happens to the workers' wires does not happen to them.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.acceptance.cinema import Cinema, open_cinema
from tests.acceptance.processes import READY, WorkerProcess
from tests.faults.clients import Publisher, Subscriber, open_subscriber
from tests.faults.proxy import Proxy
from tests.faults.wires import BrokerWire
from worker.devtools.servers import EmbeddedMongo, EmbeddedRabbit
from worker.devtools.servers.ports import LOOPBACK
from worker.devtools.servers.process import together
from worker.devtools.servers.servers import EmbeddedServers

WORKERS: Final = 3
MEMBERS: Final = 3
BATCH_SIZE: Final = 50
PREFETCH: Final = 200
LOOK_SECONDS: Final = 0.05
STEADY_SECONDS: Final = 1.0
"""Workers that consume for so long do not merely empty their sockets."""


class StillWaiting(AssertionError):
    """Something that should come back did not, within a time that is long enough for anything."""


@dataclass
class WorkerSlot:
    """A worker's place, with a wire of its own to RabbitMQ, and the process that is in it now."""

    wire: BrokerWire
    worker: WorkerProcess


@dataclass
class FaultTestbed:
    """Everything that can be broken, and those who look at what becomes of it."""

    servers: EmbeddedServers
    cinema: Cinema
    subscriber: Subscriber
    publisher: Publisher
    store_wire: Proxy
    worker_slots: list[WorkerSlot] = field(default_factory=list)
    store_is_wired: bool = False

    @property
    def mongo(self) -> EmbeddedMongo:
        return self.servers.mongo

    @property
    def rabbit(self) -> EmbeddedRabbit:
        return self.servers.rabbit

    async def start_worker_in(self, worker_slot: WorkerSlot) -> None:
        """Put a new worker in the place of one that has ended; it may still be starting."""
        worker_slot.worker = await self._launch(worker_slot.wire)

    async def replace_workers(self) -> None:
        """Stop every worker in order, and start others."""
        await asyncio.gather(*(worker_slot.worker.stop() for worker_slot in self.worker_slots))
        await self._start_all()

    async def start_over(self) -> None:
        """Workers that owe nothing to what happened to those before them."""
        await asyncio.gather(*(worker_slot.worker.kill() for worker_slot in self.worker_slots))
        await self._start_all()

    async def _start_all(self) -> None:
        for worker_slot in self.worker_slots:
            await self.start_worker_in(worker_slot)
        await asyncio.gather(
            *(worker_slot.worker.logged(READY) for worker_slot in self.worker_slots)
        )

    async def all_consume(self, since: float, patience_seconds: float) -> float:
        """When every worker was consuming, at the latest of them; looks only at what is later.

        Raises StillWaiting, with what each worker said last.
        """
        deadline = time.monotonic() + patience_seconds
        for worker_slot in self.worker_slots:
            worker_slot.wire.forget()
        while time.monotonic() < deadline:
            await self._replace_ended()
            moments = self._moments()
            if moments is not None and min(time.monotonic() - m for m in moments) > STEADY_SECONDS:
                return max(moments) - since
            await asyncio.sleep(LOOK_SECONDS)
        silent = [p.worker.lines[-1:] for p in self.worker_slots if p.wire.consuming_since is None]
        raise StillWaiting(f"not consuming after {patience_seconds:g} s: {silent}")

    async def _replace_ended(self) -> None:
        """As whatever runs a service does: a start while a server is away ends with a code."""
        for worker_slot in self.worker_slots:
            if worker_slot.worker.process.returncode is not None:
                await self.start_worker_in(worker_slot)

    def _moments(self) -> list[float] | None:
        moments = [worker_slot.wire.consuming_since for worker_slot in self.worker_slots]
        known = [moment for moment in moments if moment is not None]
        return known if len(known) == len(moments) else None

    async def _launch(self, wire: BrokerWire) -> WorkerProcess:
        uri = f"mongodb://{LOOPBACK}:{self.store_wire.port}/?directConnection=true"
        return await self.cinema.launch(
            AMQP_URL=f"amqp://guest:guest@{LOOPBACK}:{wire.port}/",
            MONGODB_URI=uri if self.store_is_wired else self.mongo.uri,
            BATCH_SIZE=str(BATCH_SIZE),
            PREFETCH=str(PREFETCH),
        )

    def said(self, heard: Sequence[tuple[WorkerProcess, int]]) -> list[str]:
        """What workers have logged since ``heard``."""
        before = dict(heard)
        return [
            line for worker in self.cinema.workers for line in worker.lines[before.get(worker, 0) :]
        ]

    def heard(self) -> list[tuple[WorkerProcess, int]]:
        """How many lines each worker has logged."""
        return [(worker, len(worker.lines)) for worker in self.cinema.workers]


@asynccontextmanager
async def open_testbed() -> AsyncIterator[FaultTestbed]:
    """Start everything, and leave nothing behind."""
    with tempfile.TemporaryDirectory(prefix="faults-", ignore_cleanup_errors=True) as name:
        servers = EmbeddedServers(
            EmbeddedMongo(
                Path(name) / "mongodb",
                members=MEMBERS,
                parameters={"enableTestCommands": "1"},
            ),
            EmbeddedRabbit(Path(name) / "rabbitmq"),
        )
        try:
            await together(servers.mongo.start(), servers.rabbit.start())
            async with _testbed_on(servers) as testbed:
                yield testbed
        finally:
            await together(servers.mongo.kill(), servers.rabbit.kill())


@asynccontextmanager
async def _testbed_on(servers: EmbeddedServers) -> AsyncIterator[FaultTestbed]:
    async def broker_port() -> int:
        return servers.rabbit.port

    async def primary_port() -> int:
        index = await servers.mongo.primary()
        if index is None:
            raise ConnectionRefusedError("there is no primary")
        return servers.mongo.members[index].port

    async with AsyncExitStack() as stack:
        cinema = await stack.enter_async_context(open_cinema(servers.amqp_url, servers.mongodb_uri))
        await cinema.client.close()
        subscriber = await stack.enter_async_context(open_subscriber(servers.amqp_url))
        cinema.client = subscriber.client
        publisher = Publisher(servers.amqp_url)
        stack.push_async_callback(publisher.close)
        store_wire = Proxy(primary_port)
        await stack.enter_async_context(store_wire.opened())
        testbed = FaultTestbed(servers, cinema, subscriber, publisher, store_wire)
        for _ in range(WORKERS):
            wire = BrokerWire(broker_port)
            await stack.enter_async_context(wire.opened())
            testbed.worker_slots.append(WorkerSlot(wire, await testbed._launch(wire)))
        await asyncio.gather(
            *(worker_slot.worker.logged(READY) for worker_slot in testbed.worker_slots)
        )
        yield testbed
        await cinema.stop_workers()
