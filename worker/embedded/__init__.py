"""A real mongod and a real rabbitmq-server as child processes, for `dev`, `demo` and the tests.

Owns finding, starting, awaiting and stopping them; knows nothing of reservations.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from worker.embedded.mongo import EmbeddedMongo
from worker.embedded.rabbit import EmbeddedRabbit

__all__ = ["EmbeddedMongo", "EmbeddedRabbit", "EmbeddedServers", "embedded_servers"]


@dataclass(frozen=True, slots=True)
class EmbeddedServers:
    """Both servers, running."""

    mongo: EmbeddedMongo
    rabbit: EmbeddedRabbit

    @property
    def amqp_url(self) -> str:
        return self.rabbit.url

    @property
    def mongodb_uri(self) -> str:
        return self.mongo.uri


@asynccontextmanager
async def embedded_servers(folder: Path | None = None) -> AsyncIterator[EmbeddedServers]:
    """Start both servers at once and stop them at the end, whatever that is.

    The data is kept in ``folder``, or gone afterwards if that is None. Raises MissingServer or
    EmbeddedServerError.
    """
    async with AsyncExitStack() as stack:
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="reservation-")))
        mongo = EmbeddedMongo(folder / "mongo")
        rabbit = EmbeddedRabbit(folder / "rabbit")
        stack.push_async_callback(_stop_both, mongo, rabbit)
        # Both to their ends, so that no start is still under way when the other is stopped.
        starts = await asyncio.gather(mongo.start(), rabbit.start(), return_exceptions=True)
        for failure in starts:
            if failure is not None:
                raise failure
        yield EmbeddedServers(mongo, rabbit)


async def _stop_both(mongo: EmbeddedMongo, rabbit: EmbeddedRabbit) -> None:
    await asyncio.gather(mongo.stop(), rabbit.stop())
