"""Decodes the payloads of the broker's most frequent frames.

RabbitMQ passes on whatever bytes a publisher put into the routing key and the properties: text that
is not UTF-8, times far beyond the year 9999, tables nested without end. What does not decode counts
as absent, and the body decides what becomes of such a message.

AMQP 0-9-1 specification, sections 4.2.6.1 (the content header) and 1.8.3 (the methods and the
properties of class basic, in the order in which their values follow).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import pamqp.decode

BASIC_RETURN: Final = struct.pack(">HH", 60, 50)
BASIC_DELIVER: Final = struct.pack(">HH", 60, 60)
BASIC_ACK: Final = struct.pack(">HH", 60, 80)
BASIC_NACK: Final = struct.pack(">HH", 60, 120)
"""Class and method, with which the payload of every method frame begins."""

_METHOD_ID_BYTES: Final = len(BASIC_DELIVER)
_DELIVERY_TAG: Final = struct.Struct(">Q")
_REPLY_CODE_BYTES: Final = 2
_MULTIPLE: Final = 1

_BODY_SIZE: Final = struct.Struct(">Q")
_BODY_SIZE_AT: Final = 4
"""After the class and the weight."""
_FLAGS: Final = struct.Struct(">H")
_FLAGS_AT: Final = 12
"""After the class, the weight and the size of the body."""
_VALUES_AT: Final = 14
_SIZE: Final = struct.Struct(">I")
_VALUE_BYTES: Final = {
    type_code.to_bytes(): size
    for type_codes, size in (
        (b"V", 0),
        (b"tbB", 1),
        (b"su", 2),
        (b"Iif", 4),
        (b"D", 5),
        (b"lLdT", 8),
    )
    for type_code in type_codes
}
"""The size of a value in a field table by its type, with RabbitMQ's errata."""
_NESTED: Final = frozenset({b"A", b"F"})
_LONG_TEXTS: Final = frozenset({b"S", b"x"})
NESTED_BYTES_MAX: Final = 4096

_CONTENT_TYPE: Final = 1 << 15
_CONTENT_ENCODING: Final = 1 << 14
_HEADERS: Final = 1 << 13
_DELIVERY_MODE: Final = 1 << 12
_PRIORITY: Final = 1 << 11
_CORRELATION_ID: Final = 1 << 10
_REPLY_TO: Final = 1 << 9
_EXPIRATION: Final = 1 << 8
_MESSAGE_ID: Final = 1 << 7
_TIMESTAMP: Final = 1 << 6
_TYPE: Final = 1 << 5
_USER_ID: Final = 1 << 4
_APP_ID: Final = 1 << 3

_FLAGS_IN_ORDER: Final = tuple(1 << bit for bit in range(15, 2, -1))
_SECONDS: Final = struct.Struct(">Q")


@dataclass(frozen=True, slots=True)
class Properties:
    """The properties of a message, except those meant for the broker: delivery mode, priority."""

    content_type: str | None = None
    content_encoding: str | None = None
    headers: Mapping[str, object] | None = None
    correlation_id: str | None = None
    reply_to: str | None = None
    expiration: str | None = None
    message_id: str | None = None
    timestamp: datetime | None = None
    type: str | None = None
    user_id: str | None = None
    app_id: str | None = None


@dataclass(frozen=True, slots=True)
class DeliveredMessage:
    """A message as the broker delivered it; ``tag`` identifies the delivery on its channel."""

    tag: int
    redelivered: bool
    routing_key: str
    properties: Properties
    body: bytes


@dataclass(frozen=True, slots=True)
class Confirmation:
    """The broker's ack or nack of a published message, or of all up to and including its tag."""

    tag: int
    multiple: bool
    is_ack: bool


def read_delivered_message(method: bytes, header: bytes, body: bytes) -> DeliveredMessage:
    """Read a basic.deliver: consumer tag, delivery tag, redelivered, exchange, routing key."""
    tag_at = _METHOD_ID_BYTES + 1 + method[_METHOD_ID_BYTES]
    (tag,) = _DELIVERY_TAG.unpack_from(method, tag_at)
    redelivered_at = tag_at + _DELIVERY_TAG.size
    exchange_at = redelivered_at + 1
    routing_key_at = exchange_at + 1 + method[exchange_at]
    routing_key = _text(method, routing_key_at)[1] or ""
    redelivered = bool(method[redelivered_at])
    return DeliveredMessage(tag, redelivered, routing_key, read_properties(header), body)


def read_confirmation(method: bytes) -> Confirmation:
    """Read a basic.ack or basic.nack: delivery tag and flags."""
    (tag,) = _DELIVERY_TAG.unpack_from(method, _METHOD_ID_BYTES)
    multiple = bool(method[_METHOD_ID_BYTES + _DELIVERY_TAG.size] & _MULTIPLE)
    return Confirmation(tag, multiple, is_ack=method.startswith(BASIC_ACK))


def read_returned_exchange(method: bytes) -> str:
    """The exchange in a basic.return: reply code, reply text, exchange, routing key."""
    exchange_at, _ = _text(method, _METHOD_ID_BYTES + _REPLY_CODE_BYTES)
    return _text(method, exchange_at)[1] or ""


def body_size(header: bytes) -> int:
    """The size of the body, in bytes, that a content header announces."""
    size: int
    (size,) = _BODY_SIZE.unpack_from(header, _BODY_SIZE_AT)
    return size


def read_properties(header: bytes) -> Properties:
    """Read the payload of a content header frame; what does not decode is left out."""
    (flags,) = _FLAGS.unpack_from(header, _FLAGS_AT)
    texts: dict[int, str | None] = {}
    headers: Mapping[str, object] | None = None
    timestamp: datetime | None = None
    at = _VALUES_AT
    for flag in _FLAGS_IN_ORDER:
        if not flags & flag:
            continue
        if at >= len(header):
            break
        if flag == _HEADERS:
            at, headers = _headers(header, at)
        elif flag == _TIMESTAMP:
            at, timestamp = _time(header, at)
        elif flag in (_DELIVERY_MODE, _PRIORITY):
            at += 1
        else:
            at, texts[flag] = _text(header, at)
    return Properties(
        content_type=texts.get(_CONTENT_TYPE),
        content_encoding=texts.get(_CONTENT_ENCODING),
        headers=headers,
        correlation_id=texts.get(_CORRELATION_ID),
        reply_to=texts.get(_REPLY_TO),
        expiration=texts.get(_EXPIRATION),
        message_id=texts.get(_MESSAGE_ID),
        timestamp=timestamp,
        type=texts.get(_TYPE),
        user_id=texts.get(_USER_ID),
        app_id=texts.get(_APP_ID),
    )


def _text(header: bytes, at: int) -> tuple[int, str | None]:
    """A short string, and where the next value starts."""
    end = at + 1 + header[at]
    if end > len(header):
        return end, None
    try:
        return end, header[at + 1 : end].decode()
    except UnicodeDecodeError:
        return end, None


def _time(header: bytes, at: int) -> tuple[int, datetime | None]:
    """A time in seconds, and where the next value starts."""
    end = at + _SECONDS.size
    try:
        return end, datetime.fromtimestamp(_SECONDS.unpack_from(header, at)[0], UTC)
    except (struct.error, ValueError, OverflowError, OSError):
        return end, None


def _headers(header: bytes, at: int) -> tuple[int, Mapping[str, object] | None]:
    """A field table, and where the next value starts."""
    start = at + _SIZE.size
    if start > len(header):
        return start, None
    end = start + _SIZE.unpack_from(header, at)[0]
    return end, dict(_entries(header[start:end]))


def _entries(table: bytes) -> Iterator[tuple[str, object]]:
    """The entries of a field table, each decoded by itself, so that a bad one spoils no other.

    To decode a value pamqp copies everything behind it, which takes more than a second for a
    nested table of 128 KiB: so nested tables and arrays above NESTED_BYTES_MAX are left out.
    """
    at = 0
    while at < len(table):
        type_at, name = _text(table, at)
        end = _value_end(table, type_at)
        if end is None or end > len(table):
            return
        nested = table[type_at : type_at + 1] in _NESTED
        if name is not None and not (nested and end - type_at > NESTED_BYTES_MAX):
            with suppress(Exception):  # pamqp lets through any exception from its decoding.
                yield name, pamqp.decode.embedded_value(table[type_at:end])[1]
        at = end


def _value_end(table: bytes, type_at: int) -> int | None:
    """Where a value of a field table ends, or None if its type is unknown or its size missing."""
    type_code = table[type_at : type_at + 1]
    start = type_at + 1
    if type_code in _VALUE_BYTES:
        return start + _VALUE_BYTES[type_code]
    if type_code not in _NESTED | _LONG_TEXTS or start + _SIZE.size > len(table):
        return None
    return start + _SIZE.size + int(_SIZE.unpack_from(table, start)[0])
