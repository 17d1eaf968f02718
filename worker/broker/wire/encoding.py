"""Encodes the frames of a published message, without a detour through objects.

pamqp can encode any frame, and takes 32 µs for the three of an event. These are always the same
three, and encoding them directly takes a third of that. The result is the same, byte for byte, and
a test compares it with pamqp's.

AMQP 0-9-1 specification, sections 2.3.5 (frames), 4.2.5 (field tables) and 4.2.6 (content), with
RabbitMQ's errata for the types of table values.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Final

from worker.broker.messages import Message

FRAME_METHOD: Final = 1
FRAME_HEADER: Final = 2
FRAME_BODY: Final = 3
FRAME_END: Final = b"\xce"

CLASS_BASIC: Final = 60
METHOD_PUBLISH: Final = 40

APP_ID: Final = "reservation-worker"
PERSISTENT: Final = 2

# The flag of each property, in the order in which their values follow.
CONTENT_TYPE: Final = 1 << 15
CONTENT_ENCODING: Final = 1 << 14
HEADERS: Final = 1 << 13
DELIVERY_MODE: Final = 1 << 12
CORRELATION_ID: Final = 1 << 10
REPLY_TO: Final = 1 << 9
MESSAGE_ID: Final = 1 << 7
TIMESTAMP: Final = 1 << 6
TYPE: Final = 1 << 5
APP: Final = 1 << 3

_FRAME: Final = struct.Struct(">BHI")
_PUBLISH: Final = struct.Struct(">HHH")
_HEADER: Final = struct.Struct(">HHQH")
_LENGTH: Final = struct.Struct(">I")
_TIMESTAMP: Final = struct.Struct(">Q")

SHORT_STRING_BYTES_MAX: Final = 255


def publish_frames(channel_number: int, body_bytes_max: int, message: Message) -> bytes:
    """The method, header and body frames that publish this message, ready for the socket.

    ``body_bytes_max`` is the limit for one body frame. Raises ValueError for a string that is
    too long for its field.
    """
    body = message.body
    frames = [
        _frame(FRAME_METHOD, channel_number, _publish(message)),
        _frame(FRAME_HEADER, channel_number, _content_header(message)),
    ]
    frames += (
        _frame(FRAME_BODY, channel_number, body[start : start + body_bytes_max])
        for start in range(0, len(body), body_bytes_max)
    )
    return b"".join(frames)


def _frame(kind: int, channel_number: int, payload: bytes) -> bytes:
    return _FRAME.pack(kind, channel_number, len(payload)) + payload + FRAME_END


def _publish(message: Message) -> bytes:
    return b"".join(
        (
            _PUBLISH.pack(CLASS_BASIC, METHOD_PUBLISH, 0),
            _short(message.exchange),
            _short(message.routing_key),
            b"\x01" if message.mandatory else b"\x00",
        )
    )


def _content_header(message: Message) -> bytes:
    flags, values = HEADERS | DELIVERY_MODE | APP, b""
    if message.timestamp is not None:
        flags |= TIMESTAMP
        values = _TIMESTAMP.pack(int(message.timestamp.timestamp()))
    kind, kind_value = _present((TYPE, message.type))
    content, content_values = _present(
        (CONTENT_TYPE, message.content_type), (CONTENT_ENCODING, message.content_encoding)
    )
    address, address_values = _present(
        (CORRELATION_ID, message.correlation_id),
        (REPLY_TO, message.reply_to),
        (MESSAGE_ID, message.message_id),
    )
    flags |= content | address | kind
    return b"".join(
        (
            _HEADER.pack(CLASS_BASIC, 0, len(message.body), flags),
            content_values,
            _table(message.headers),
            _DELIVERY_MODE,
            address_values,
            values,
            kind_value,
            _APP_ID,
        )
    )


def _present(*properties: tuple[int, str | None]) -> tuple[int, bytes]:
    """The flags and the values of the properties that are set."""
    flags, values = 0, b""
    for flag, value in properties:
        if value is not None:
            flags |= flag
            values += _short(value)
    return flags, values


def _table(headers: Mapping[str, str]) -> bytes:
    entries: list[bytes] = []
    for name, value in headers.items():
        encoded = value.encode()
        entries += (_short(name), b"S", _LENGTH.pack(len(encoded)), encoded)
    table = b"".join(entries)
    return _LENGTH.pack(len(table)) + table


def _short(text: str) -> bytes:
    encoded = text.encode()
    if len(encoded) > SHORT_STRING_BYTES_MAX:
        raise ValueError(f"{text[:40]!r}… is too long for a short string of AMQP")
    return bytes((len(encoded),)) + encoded


_DELIVERY_MODE: Final = bytes((PERSISTENT,))
_APP_ID: Final = _short(APP_ID)
