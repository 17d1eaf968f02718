"""Opening and closing connections, with what every one of them needs."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, Final

import aio_pika
from aiormq.connection import TCPTransportFactory, TLSTransportFactory, TransportFactory
from yarl import URL

from worker.broker.client_failures import explain, translated_failures
from worker.broker.wire.demultiplexer import Demultiplexer
from worker.errors import BrokerUnusable
from worker.redaction import without_password, without_secrets

CONNECT_TIMEOUT_SECONDS: Final = 8
"""Together with the longest wait between two attempts less than 15 s, within which a worker is back
after its server: an attempt may have begun just before."""
CLOSE_TIMEOUT_SECONDS: Final = 2
HEARTBEAT_SECONDS: Final = 10
"""A silent peer is given up after three of them."""
FILE_OPTIONS: Final = ("cafile", "certfile", "keyfile")
"""Of an amqps:// URL, after its question mark; aiormq knows them by these names."""


class Connection(aio_pika.Connection):
    """aio-pika's connection, from which channels can take what comes before aiormq sees it."""

    def __init__(self, url: URL, *arguments: Any, **options: Any) -> None:  # noqa: ANN401  # Passed on.
        super().__init__(url, *arguments, **options)
        self._transport_factory = _DemultiplexingFactory(
            TLSTransportFactory() if url.scheme == "amqps" else TCPTransportFactory()
        )
        self.kwargs["transport_factory"] = self._transport_factory

    def __del__(self) -> None:
        """Whoever opened it closes it; one that never opened has nothing to close.

        aio-pika would start a task here, which fails with a warning on standard error whenever
        the garbage is collected in one of the driver's threads.
        """

    @property
    def demultiplexer(self) -> Demultiplexer:
        """What comes on this connection, once it is open."""
        return self._transport_factory.demultiplexer

    @property
    def heartbeat_seconds(self) -> int:
        """In which the broker lets itself be heard at least twice; 0 if it need not."""
        return self.transport.connection.connection_tune.heartbeat if self.transport else 0


class _DemultiplexingFactory(TransportFactory):
    """Another factory's transport, with a Demultiplexer before its reader."""

    demultiplexer: Demultiplexer

    def __init__(self, inner: TransportFactory) -> None:
        self._inner = inner

    async def create(
        self,
        url: URL,
        **options: Any,  # noqa: ANN401  # Passed on as they come.
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await self._inner.create(url, **options)
        # The server says nothing before it is spoken to, so nothing has come past it.
        self.demultiplexer = Demultiplexer(reader.feed_data)
        reader.feed_data = self.demultiplexer  # type: ignore[assignment, method-assign]
        return reader, writer


async def connect(url: str, purpose: str) -> Connection:
    """Connect; the broker's operators see the connection's purpose. Raises BrokerUnusable."""
    place = f"RabbitMQ at {without_password(url)}"
    try:
        target = URL(url)
        _require_files(target, place)
        if "heartbeat" not in target.query:
            target = target.update_query(heartbeat=str(HEARTBEAT_SECONDS))
        with translated_failures(place, BrokerUnusable):
            return await aio_pika.connect(
                target,
                timeout=CONNECT_TIMEOUT_SECONDS,
                client_properties={"connection_name": f"reservation-worker: {purpose}"},
                connection_class=Connection,
            )
    except ValueError as failure:
        # A host that is no name, certificates that are no base64: nobody checks them earlier.
        told = without_secrets(explain(failure), url)
        raise BrokerUnusable(f"{place}: the URL cannot be used: {told}") from None


def _require_files(target: URL, place: str) -> None:
    """Raises BrokerUnusable with the name of a file that TLS needs; the client leaves it out."""
    for option in FILE_OPTIONS:
        if path := target.query.get(option):
            try:
                Path(path).open("rb").close()
            except OSError as failure:
                raise BrokerUnusable(
                    f"{place}: {option} {path} cannot be read: {failure.strerror}"
                ) from failure


async def close_connection(connection: Connection) -> None:
    """Close it, within CLOSE_TIMEOUT_SECONDS and whatever state it is in."""

    async def closing() -> None:
        async with asyncio.timeout(CLOSE_TIMEOUT_SECONDS):
            await connection.close()

    # In a task of its own: a connection that is broken may cancel whoever closes it.
    await asyncio.gather(closing(), return_exceptions=True)
