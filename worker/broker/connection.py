"""Opens and closes connections, with what every one of them needs."""

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
"""Together with the longest wait between two attempts, this is less than the 15 s within which a
worker must be back after its server: an attempt may have begun just before."""
CLOSE_TIMEOUT_SECONDS: Final = 2
HEARTBEAT_SECONDS: Final = 10
"""A peer is given up after a silence of three heartbeats."""
FILE_OPTIONS: Final = ("cafile", "certfile", "keyfile")
"""The files in the query of an ``amqps://`` URL, under the names that aiormq gives them."""


class Connection(aio_pika.Connection):
    """aio-pika's connection, whose input channels can intercept before aiormq sees it."""

    def __init__(self, url: URL, *arguments: Any, **options: Any) -> None:  # noqa: ANN401  # Passed on.
        super().__init__(url, *arguments, **options)
        self._transport_factory = _DemultiplexingFactory(
            TLSTransportFactory() if url.scheme == "amqps" else TCPTransportFactory()
        )
        self.kwargs["transport_factory"] = self._transport_factory

    def __del__(self) -> None:
        """Do nothing: the code that opened a connection closes it.

        aio-pika would start a task here, which fails with a warning on standard error whenever
        garbage is collected in one of the MongoDB driver's threads.
        """

    @property
    def demultiplexer(self) -> Demultiplexer:
        """What receives the input of this connection, once it is open."""
        return self._transport_factory.demultiplexer

    @property
    def heartbeat_seconds(self) -> int:
        """The interval in which the broker sends two heartbeats; 0 if it sends none."""
        return self.transport.connection.connection_tune.heartbeat if self.transport else 0


class _DemultiplexingFactory(TransportFactory):
    """Another factory's transport, with a Demultiplexer in front of its reader."""

    demultiplexer: Demultiplexer

    def __init__(self, inner: TransportFactory) -> None:
        self._inner = inner

    async def create(
        self,
        url: URL,
        **options: Any,  # noqa: ANN401  # Passed on as they come.
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await self._inner.create(url, **options)
        # In AMQP the client speaks first, so nothing can have arrived before this.
        self.demultiplexer = Demultiplexer(reader.feed_data)
        # asyncio offers no public way to see the bytes before the reader does.
        reader.feed_data = self.demultiplexer  # type: ignore[assignment, method-assign]
        return reader, writer


async def connect(url: str, purpose: str) -> Connection:
    """Connect; raises BrokerUnusable. RabbitMQ lists the connection by its ``purpose``."""
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
        # An impossible host name, or a certificate that is not base64: the client does not check
        # these before it uses them.
        reason = without_secrets(explain(failure), url)
        raise BrokerUnusable(f"{place}: the URL cannot be used: {reason}") from None


def _require_files(target: URL, place: str) -> None:
    """Raises BrokerUnusable with the name of an unreadable file, which the client leaves out."""
    for option in FILE_OPTIONS:
        if path := target.query.get(option):
            try:
                Path(path).open("rb").close()
            except OSError as failure:
                raise BrokerUnusable(
                    f"{place}: {option} {path} cannot be read: {failure.strerror}"
                ) from failure


async def close_connection(connection: Connection) -> None:
    """Close it within CLOSE_TIMEOUT_SECONDS, whatever state it is in."""

    async def closing() -> None:
        async with asyncio.timeout(CLOSE_TIMEOUT_SECONDS):
            await connection.close()

    # In a task of its own, because closing a broken connection may cancel the task that does it.
    await asyncio.gather(closing(), return_exceptions=True)
