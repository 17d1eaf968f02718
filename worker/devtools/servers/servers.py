"""Both servers together, for as long as an ``async with`` block.

Refuses to know how either server works.
"""

from __future__ import annotations

import tempfile
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from worker.devtools.servers.mongo import EmbeddedMongo
from worker.devtools.servers.process import together
from worker.devtools.servers.rabbit import EmbeddedRabbit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractContextManager


@dataclass(frozen=True, slots=True)
class EmbeddedServers:
    """A running MongoDB and a running RabbitMQ."""

    mongo: EmbeddedMongo
    rabbit: EmbeddedRabbit

    @property
    def mongodb_uri(self) -> str:
        """What ``RESERVATION_MONGODB_URI`` takes."""
        return self.mongo.uri

    @property
    def amqp_url(self) -> str:
        """What ``RESERVATION_AMQP_URL`` takes."""
        return self.rabbit.url


@asynccontextmanager
async def embedded_servers(folder: Path | None = None) -> AsyncIterator[EmbeddedServers]:
    """Start both servers at once and stop both at the end, also after an error or a cancellation.

    What they store is kept in ``folder``, and found there again by the next start; without one they
    use a temporary folder, which is removed. Raises EmbeddedServerError if one does not start.
    """
    with _folder_or_temporary(folder) as home:
        servers = EmbeddedServers(
            mongo=EmbeddedMongo(Path(home) / "mongodb"),
            rabbit=EmbeddedRabbit(Path(home) / "rabbitmq"),
        )
        try:
            await together(servers.mongo.start(), servers.rabbit.start())
            yield servers
        finally:
            await together(servers.mongo.stop(), servers.rabbit.stop())


def _folder_or_temporary(folder: Path | None) -> AbstractContextManager[str | Path]:
    if folder is not None:
        return nullcontext(folder)
    # A server that had to be killed may write its last file while the folder is being removed.
    return tempfile.TemporaryDirectory(prefix="reservation-worker-", ignore_cleanup_errors=True)
