"""Decoding the frames of published messages, as a broker does.

AMQP 0-9-1 specification, sections 2.3.5 (frames), 4.2.5 (field tables) and 4.2.6 (content). Written
independently of the worker's own encoding, and only for what a worker may publish.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

METHOD: Final = 1
HEADER: Final = 2
BODY: Final = 3
PUBLISH: Final = b"\x00\x3c\x00\x28"

SHORT_STRINGS: Final = {
    15: "content_type",
    14: "content_encoding",
    10: "correlation_id",
    9: "reply_to",
    7: "message_id",
    5: "type",
    3: "app_id",
}
HEADERS: Final = 13
LENGTHS: Final = {12: 1, 11: 1, 6: 8}
"""The properties of fixed length: delivery mode, priority and timestamp."""


@dataclass(slots=True)
class Incoming:
    """A message from a publisher."""

    exchange: str
    routing_key: str
    is_mandatory: bool
    headers: dict[str, str]
    properties: dict[str, str]
    body: bytes = b""


def messages_in(payload: bytes) -> list[Incoming]:
    """The messages in these frames."""
    found: list[Incoming] = []
    at = 0
    while at < len(payload):
        kind, size = payload[at], int.from_bytes(payload[at + 3 : at + 7], "big")
        start, at = at + 7, at + 8 + size
        if kind == METHOD:
            if payload[start : start + 4] != PUBLISH:
                raise ValueError("only basic.publish may be written as raw frames")
            exchange, end = _short(payload, start + 6)
            routing_key, end = _short(payload, end)
            found.append(Incoming(exchange, routing_key, payload[end] == 1, {}, {}))
        elif kind == HEADER:
            _read_properties(payload, start + 12, found[-1])
        elif kind == BODY:
            found[-1].body += payload[start : start + size]
        else:
            raise ValueError(f"frame of type {kind}")
    return found


def _read_properties(payload: bytes, at: int, message: Incoming) -> None:
    flags = int.from_bytes(payload[at : at + 2], "big")
    at += 2
    for bit in range(15, 1, -1):
        if not flags >> bit & 1:
            continue
        if bit in SHORT_STRINGS:
            message.properties[SHORT_STRINGS[bit]], at = _short(payload, at)
        elif bit == HEADERS:
            end = at + 4 + int.from_bytes(payload[at : at + 4], "big")
            at += 4
            while at < end:
                name, at = _short(payload, at)
                length = int.from_bytes(payload[at + 1 : at + 5], "big")
                message.headers[name] = payload[at + 5 : at + 5 + length].decode()
                at += 5 + length
        else:
            at += LENGTHS[bit]


def _short(payload: bytes, at: int) -> tuple[str, int]:
    end = at + 1 + payload[at]
    return payload[at + 1 : end].decode(), end
