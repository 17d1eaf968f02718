"""A TCP proxy that the tests own: whatever can happen to a wire happens here, when it is told to.

Knows of bytes and connections only. A frame, a request or a server's name means nothing to it.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

from worker.devtools.servers.ports import LOOPBACK, free_ports

CHUNK_BYTES: Final = 64 * 1024
TORN_BYTES_MAX: Final = 100
"""At most so many of a chunk's last bytes are withheld by a tear. A chunk nearly always ends where
a frame ends, so this is the middle of one."""

_RESET: Final = struct.pack("ii", 1, 0)
"""SO_LINGER with no time: the socket's end is a reset, as when a machine has lost its memory."""


@dataclass(eq=False)
class Pair:
    """One client's connection, and the one that was made for it to the server."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    passing: asyncio.Event = field(default_factory=asyncio.Event)
    torn_after_chunks: int | None = None

    def reset(self) -> None:
        for writer in (self.client, self.server):
            with suppress(OSError):
                opened = writer.get_extra_info("socket")
                opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            writer.transport.abort()


class Proxy:
    """Listens on ``port`` of the loopback, and passes everything on to wherever ``target`` says."""

    def __init__(self, target: Callable[[], Awaitable[int]]) -> None:
        (self.port,) = free_ports(1)
        self.delay_seconds = 0.0
        self._target = target
        self._pairs: list[Pair] = []
        self._serving: set[asyncio.Task[None]] = set()
        self._passes = True
        self._tearing: random.Random | None = None
        self._server: asyncio.Server | None = None

    @property
    def connections(self) -> int:
        """How many there are now."""
        return len(self._pairs)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Proxy]:
        """Accept connections for as long as this lasts."""
        await self.accept()
        try:
            yield self
        finally:
            self.refuse()
            for task in self._serving:
                task.cancel()
            await asyncio.gather(*self._serving, return_exceptions=True)

    async def accept(self) -> None:
        """Take connections, again."""
        if self._server is None:
            self._server = await asyncio.start_server(self._on_client, LOOPBACK, self.port)

    def refuse(self) -> None:
        """Take no connections, as when nobody listens."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def cut(self) -> None:
        """Reset every connection there is."""
        for pair in tuple(self._pairs):
            pair.reset()

    def blackhole(self) -> None:
        """Let nothing through in either direction, and let nobody know."""
        self._passes = False
        for pair in self._pairs:
            pair.passing.clear()

    def blackhole_newest(self) -> None:
        """Let nothing through on the connection that was opened last, and on no other."""
        self._pairs[-1].passing.clear()

    def restore(self, *, old_connections: bool = True) -> None:
        """Let everything through again; without ``old_connections``, only what is new."""
        self._passes = True
        for pair in self._pairs if old_connections else ():
            pair.passing.set()

    def tear(self, chance: random.Random | None) -> None:
        """From now on cut each connection in the middle of a frame after some; None ends it."""
        self._tearing = chance
        for pair in self._pairs:
            pair.torn_after_chunks = self._chunks_until_torn()

    def seen(self, data: bytes, *, from_client: bool) -> None:
        """Called with everything that was passed on; for those who want to look at it."""

    def lost(self) -> None:
        """Called when a connection has gone."""

    def _chunks_until_torn(self) -> int | None:
        return self._tearing.randint(1, 20) if self._tearing else None

    async def _on_client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        with suppress(asyncio.CancelledError):  # asyncio would report it as an error of ours.
            await self._serve(reader, writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            answers, server = await asyncio.open_connection(LOOPBACK, await self._target())
        except OSError:
            writer.transport.abort()
            return
        pair = Pair(writer, server, torn_after_chunks=self._chunks_until_torn())
        if self._passes:
            pair.passing.set()
        self._pairs.append(pair)
        pumps = [
            asyncio.create_task(self._pump(pair, reader, server, from_client=True)),
            asyncio.create_task(self._pump(pair, answers, writer, from_client=False)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            self._pairs.remove(pair)
            for end in (writer, server):
                end.close()
            self.lost()

    async def _pump(
        self,
        pair: Pair,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        from_client: bool,
    ) -> None:
        while data := await reader.read(CHUNK_BYTES):
            await pair.passing.wait()
            if self.delay_seconds:
                await asyncio.sleep(self.delay_seconds)
            if pair.torn_after_chunks is not None and self._tearing:
                pair.torn_after_chunks -= 1
                if pair.torn_after_chunks <= 0:
                    await _half(writer, data, self._tearing)
                    pair.reset()
                    return
            writer.write(data)
            await writer.drain()
            self.seen(data, from_client=from_client)


async def _half(writer: asyncio.StreamWriter, data: bytes, chance: random.Random) -> None:
    """Pass on all but the last few bytes, and see to it that these do leave."""
    withheld = chance.randint(1, min(TORN_BYTES_MAX, max(len(data) - 1, 1)))
    writer.write(data[:-withheld])
    # A transport with nothing left in its buffer has given all to the kernel, but a reset would
    # take back what the peer has not read yet.
    await writer.drain()
    await asyncio.sleep(0.05)
