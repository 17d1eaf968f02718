"""Reading what no client library can: properties and routing keys that do not decode.

RabbitMQ passes on whatever bytes a publisher put there. pamqp raises on text that is not UTF-8, on
times beyond the year 9999 and on tables nested too deep, and aiormq then gives up the connection;
the message comes again and ends the next one, with everything else that was under way, until the
delivery limit takes all of it. So frames are looked at before aiormq sees them, and what cannot be
decoded is left out: the body decides what becomes of such a message.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from typing import Any, Final

import aio_pika
import pamqp.frame
from aiormq.connection import TCPTransportFactory, TLSTransportFactory, TransportFactory
from yarl import URL

FRAME_OVERHEAD_BYTES: Final = 8
"""Type, channel and size before the payload, and the end mark behind it."""
METHOD: Final = 1
HEADER: Final = 2
PROTOCOL_HEADER: Final = b"AMQP"
"""What a server answers that speaks another version; no frame starts like that."""

_FRAME: Final = struct.Struct(">BHI")
_BASIC_DELIVER: Final = struct.pack(">HH", 60, 60)
_CONTENT_HEADER: Final = struct.Struct(">HHQH")


class TolerantConnection(aio_pika.Connection):
    """aio-pika's connection, over a stream that holds nothing undecodable."""

    def __init__(self, url: URL, *arguments: Any, **options: Any) -> None:  # noqa: ANN401  # Passed on.
        super().__init__(url, *arguments, **options)
        self.kwargs["transport_factory"] = _TolerantTransport(
            TLSTransportFactory() if url.scheme == "amqps" else TCPTransportFactory()
        )


class _TolerantTransport(TransportFactory):
    """Another factory's transport, with a filter in front of its reader."""

    def __init__(self, inner: TransportFactory) -> None:
        self._inner = inner

    async def create(
        self,
        url: URL,
        **options: Any,  # noqa: ANN401  # Passed on as they come.
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await self._inner.create(url, **options)
        # The server says nothing before it is spoken to, so nothing has come past the filter.
        reader.feed_data = FrameFilter(reader.feed_data)  # type: ignore[assignment, method-assign]
        return reader, writer


class FrameFilter:
    """Passes on whole frames, with what cannot be decoded left out of them."""

    def __init__(self, feed: Callable[[bytes], None]) -> None:
        self._feed = feed
        self._pending = b""

    def __call__(self, data: bytes) -> None:
        """Take bytes as they come from the socket."""
        data = self._pending + data
        if data.startswith(PROTOCOL_HEADER):
            self._feed(data)
            return
        passed: list[bytes] = []
        start = 0
        while len(data) - start >= FRAME_OVERHEAD_BYTES:
            kind, channel, size = _FRAME.unpack_from(data, start)
            end = start + FRAME_OVERHEAD_BYTES + size
            if end > len(data):
                break
            frame = data[start:end]
            if kind == HEADER or (kind == METHOD and frame[7:11] == _BASIC_DELIVER):
                frame = _decodable(frame, channel)
            passed.append(frame)
            start = end
        self._pending = data[start:]
        if passed:
            self._feed(b"".join(passed))


def _decodable(frame: bytes, channel: int) -> bytes:
    """The frame itself, or one in its place without what cannot be decoded."""
    try:
        pamqp.frame.unmarshal(frame)
    except Exception:  # noqa: BLE001  # Whatever it is, it would end the connection.
        payload = frame[_FRAME.size : -1]
        payload = _bare_header(payload) if frame[0] == HEADER else _bare_delivery(payload)
        return _FRAME.pack(frame[0], channel, len(payload)) + payload + frame[-1:]
    return frame


def _bare_header(payload: bytes) -> bytes:
    """A content header with the size of the body and no property."""
    class_id, weight, body_size, _flags = _CONTENT_HEADER.unpack_from(payload)
    return _CONTENT_HEADER.pack(class_id, weight, body_size, 0)


def _bare_delivery(payload: bytes) -> bytes:
    """A delivery with its consumer and its tag, but with no exchange and no routing key."""
    consumer_tag_end = len(_BASIC_DELIVER) + 1 + payload[len(_BASIC_DELIVER)]
    redelivered_end = consumer_tag_end + 8 + 1
    return payload[:redelivered_end] + b"\x00\x00"
