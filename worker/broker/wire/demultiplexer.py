"""Takes frequent frames off a connection's input before the client library sees them.

aiormq reads each frame through several coroutines, queues and objects: for the three frames of a
delivery that costs more than everything else the worker does for a request. It also closes the
whole connection, and loses all that is under way on it, if properties do not decode. So the most
frequent frames (deliveries, returned messages and confirmations) are assembled here and passed to
the handler of their channel; all others go to aiormq unchanged. What the bytes mean is in
``decoding``.

AMQP 0-9-1 specification, sections 2.3.5 (frames), 4.2.6 (content) and 1.8.3 (class basic).
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

from worker.broker.wire.decoding import (
    BASIC_ACK,
    BASIC_DELIVER,
    BASIC_NACK,
    BASIC_RETURN,
    body_size,
)

FRAME_OVERHEAD_BYTES: Final = 8
"""Type, channel and size before the payload, and the end mark after it."""
METHOD: Final = 1
HEADER: Final = 2
BODY: Final = 3
HEADER_BYTES_MIN: Final = 14
"""Class, weight, size of the body and flags."""
END_MARK: Final = 0xCE
PROTOCOL_HEADER: Final = b"AMQP"
"""The answer of a server that speaks another version of AMQP; no frame starts with it."""
HEARTBEAT: Final = b"\x08\x00\x00\x00\x00\x00\x00\xce"

_FRAME: Final = struct.Struct(">BHI")
_PAYLOAD_AT: Final = 7
_METHOD_BYTES: Final = 4

WITH_CONTENT: Final = frozenset({BASIC_DELIVER, BASIC_RETURN})
WITHOUT_CONTENT: Final = frozenset({BASIC_ACK, BASIC_NACK})

Handler = Callable[[bytes, bytes, bytes], None]
"""Called with the payloads of a method frame, of its content header, and of its whole body."""


class Demultiplexer:
    """Splits the input of a connection into frames for the handlers of channels, and the rest."""

    def __init__(self, pass_on: Callable[[bytes], None]) -> None:
        self.heard_count = 0
        """How often anything was received; while it does not grow, the broker is silent."""
        self._pass_on = pass_on
        self._pending = b""
        self._garbled = False
        self._channels: dict[int, _Assembler] = {}

    def route(self, channel_number: int, handler: Handler) -> None:
        """From now on pass this channel's complete messages and confirmations to the handler."""
        self._channels[channel_number] = _Assembler(handler)

    def __call__(self, data: bytes) -> None:
        """Process bytes as they arrive from the socket."""
        self.heard_count += 1
        data = self._pending + data if self._pending else data
        if self._garbled or data.startswith(PROTOCOL_HEADER):
            self._pass_on(data)
            return
        passed: list[bytes] = []
        start, size = 0, len(data)
        while size - start >= FRAME_OVERHEAD_BYTES:
            kind, channel_number, payload_bytes = _FRAME.unpack_from(data, start)
            end = start + FRAME_OVERHEAD_BYTES + payload_bytes
            if end > size:
                break
            if data[end - 1] != END_MARK:
                # These are not frames. aiormq sees that too, and closes the connection.
                self._garbled = True
                end = size
            channel = None if self._garbled else self._channels.get(channel_number)
            if channel is None or not channel.accepts(kind, data[start + _PAYLOAD_AT : end - 1]):
                passed.append(data[start:end])
            start = end
        self._pending = data[start:]
        if passed:
            self._pass_on(b"".join(passed))
        elif start:
            # The frames taken here were signs of life, too: a busy broker sends no heartbeats.
            self._pass_on(HEARTBEAT)


class _Assembler:
    """Assembles the messages of one channel from their frames."""

    def __init__(self, handler: Handler) -> None:
        self._handle = handler
        self._method = b""
        self._header = b""
        self._body: list[bytes] = []
        self._missing_bytes = 0

    def accepts(self, kind: int, payload: bytes) -> bool:
        """Process a frame, or return False if it has to go to aiormq."""
        if kind == METHOD:
            name = payload[:_METHOD_BYTES]
            if name in WITH_CONTENT:
                self._method = payload
            elif name in WITHOUT_CONTENT:
                self._handle(payload, b"", b"")
            else:
                return False
        elif not self._method:
            return False
        elif kind == HEADER:
            if len(payload) < HEADER_BYTES_MIN:
                return False  # Cut short by the server itself: aiormq will close the connection.
            self._header = payload
            self._missing_bytes = body_size(payload)
            self._complete()
        elif kind == BODY:
            self._body.append(payload)
            self._missing_bytes -= len(payload)
            self._complete()
        return True

    def _complete(self) -> None:
        if self._missing_bytes > 0:
            return
        method, header, body = self._method, self._header, b"".join(self._body)
        self._method = b""
        self._body.clear()
        self._handle(method, header, body)
