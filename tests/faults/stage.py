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
from tests.faults.outside import Screen, Shop, open_screen
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
class Post:
    """A worker's place, with a wire of its own to RabbitMQ, and whoever works there now."""

    wire: BrokerWire
    worker: WorkerProcess


@dataclass
class Stage:
    """Everything that can be broken, and those who look at what becomes of it."""

    servers: EmbeddedServers
    cinema: Cinema
    screen: Screen
    shop: Shop
    store_wire: Proxy
    posts: list[Post] = field(default_factory=list)
    store_is_wired: bool = False

    @property
    def mongo(self) -> EmbeddedMongo:
        return self.servers.mongo

    @property
    def rabbit(self) -> EmbeddedRabbit:
        return self.servers.rabbit

    async def man(self, post: Post) -> None:
        """Put a new worker in the place of one that has ended; it may still be starting."""
        post.worker = await self._launch(post.wire)

    async def replace_workers(self) -> None:
        """Stop every worker in order, and start others."""
        await asyncio.gather(*(post.worker.stop() for post in self.posts))
        await self._man_all()

    async def start_over(self) -> None:
        """Workers that owe nothing to what happened to those before them."""
        await asyncio.gather(*(post.worker.kill() for post in self.posts))
        await self._man_all()

    async def _man_all(self) -> None:
        for post in self.posts:
            await self.man(post)
        await asyncio.gather(*(post.worker.logged(READY) for post in self.posts))

    async def all_consume(self, since: float, patience_seconds: float) -> float:
        """When every worker was consuming, at the latest of them; looks only at what is later.

        Raises StillWaiting, with what each worker said last.
        """
        deadline = time.monotonic() + patience_seconds
        for post in self.posts:
            post.wire.forget()
        while time.monotonic() < deadline:
            await self._replace_ended()
            moments = self._moments()
            if moments is not None and min(time.monotonic() - m for m in moments) > STEADY_SECONDS:
                return max(moments) - since
            await asyncio.sleep(LOOK_SECONDS)
        silent = [p.worker.lines[-1:] for p in self.posts if p.wire.consuming_since is None]
        raise StillWaiting(f"not consuming after {patience_seconds:g} s: {silent}")

    async def _replace_ended(self) -> None:
        """As whatever runs a service does: a start while a server is away ends with a code."""
        for post in self.posts:
            if post.worker.process.returncode is not None:
                await self.man(post)

    def _moments(self) -> list[float] | None:
        moments = [post.wire.consuming_since for post in self.posts]
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
async def open_stage() -> AsyncIterator[Stage]:
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
            async with _staged(servers) as stage:
                yield stage
        finally:
            await together(servers.mongo.kill(), servers.rabbit.kill())


@asynccontextmanager
async def _staged(servers: EmbeddedServers) -> AsyncIterator[Stage]:
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
        screen = await stack.enter_async_context(open_screen(servers.amqp_url))
        cinema.client = screen.client
        shop = Shop(servers.amqp_url)
        stack.push_async_callback(shop.close)
        store_wire = Proxy(primary_port)
        await stack.enter_async_context(store_wire.opened())
        stage = Stage(servers, cinema, screen, shop, store_wire)
        for _ in range(WORKERS):
            wire = BrokerWire(broker_port)
            await stack.enter_async_context(wire.opened())
            stage.posts.append(Post(wire, await stage._launch(wire)))
        await asyncio.gather(*(post.worker.logged(READY) for post in stage.posts))
        yield stage
        await cinema.stop_workers()
