"""What the fuzzers start from: valid and extreme inputs, a dictionary, and earlier findings.

A finding becomes a seed, and so part of every test run.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from typing import Any, Final

REQUEST: Final[dict[str, Any]] = {
    "requestId": "5b0c5a0e-7e1c-4c53-9a53-0d3f7f6c2f11",
    "movieId": "665f1c2ab4e0a1d2c3b4a596",
    "timeSlotId": 3,
    "numberOfPeople": 2,
    "expiresAt": "2026-12-24T19:30:00.5+05:30",
}
PLAIN, STRUCTURED = b"\x00", b"\x02"
"""The byte before a body that chooses its content type."""


def _request(**changes: object) -> bytes:
    return json.dumps({**REQUEST, **changes}).encode()


def _raw(name: str, value: bytes) -> bytes:
    """A request with a value that no JSON encoder would write."""
    return _request(**{name: "@"}).replace(b'"@"', value)


BOUNDS: Final[Mapping[str, Sequence[object]]] = {
    "requestId": ("", "a", "a" * 64, "a" * 65, ".", "a/b", None, 1),
    "movieId": ("", "m", "m" * 64, "m" * 65, "a.b", "665F1C2AB4E0A1D2C3B4A596", None, 1),
    "timeSlotId": (-1, 0, 2**53 - 1, 2**53, 2**63, 2**64, 3.0, "3", True, None),
    "numberOfPeople": (-1, 0, 1, 1000, 1001, 2.0, "2", False, None),
    "expiresAt": (
        *("2026-12-24T19:30:00Z", "2026-02-29T00:00:00Z", "2028-02-29T23:59:59z"),
        *("0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "0000-01-01T00:00:00Z"),
        *("2026-12-31T23:59:60Z", "2026-12-24T19:30:00+24:00", "2026-12-24", 0, None),
        *("2026-12-24T19:30:00+05:60", "2026-12-24T19:30:00-00:60"),
    ),
}
"""At, below and above each bound of the contract."""

RAW_VALUES: Final = (
    *(b"1e400", b"-0", b"-0.0", b"1.", b"01", b"+1", b"NaN", b"Infinity", b"0x1", b"1_000"),
    *(b"9" * 4300, b"9" * 4301, b"1" + b"0" * 60_000, b"-" + b"9" * 20),
    *(b'"\\ud800"', b'"\\ud83d\\ude00"', b'"\\udc00\\ud800"', b'"\xed\xa0\x80"', b'"\xff"'),
    *(b'"\\u0000"', b'"\x00"', b"\x00", b'"a\\nb"', b"'a'", b"[" * 199 + b"]" * 199),
    *(b"[" * 200 + b"]" * 200, b'{"a":' * 198 + b"1" + b"}" * 198, b"[" * 30_000 + b"]" * 30_000),
)
"""Numbers, strings and nesting at the limits of JSON and its parsers."""

DUPLICATES: Final = (
    b'{"requestId":"a","movieId":"m","timeSlotId":3,"numberOfPeople":2,"requestId":"b"}',
    b'{"requestId":"!","movieId":"m","timeSlotId":3,"numberOfPeople":2,"requestId":"b"}',
    b'{"requestId":"a","requestId":"!"}',
    b'{"requestId":"a","movieId":{"x":1,"x":2},"timeSlotId":3,"numberOfPeople":2}',
)

BODIES: Final = (
    *(_request(**{name: value}) for name, values in BOUNDS.items() for value in values),
    *(_raw(name, value) for name in REQUEST for value in RAW_VALUES),
    *DUPLICATES,
    *(_request(comment="x" * (65_536 - len(_request(comment="")) + more)) for more in (-1, 0, 1)),
    *(b"", b" ", b"{}", b"[]", b"null", b"\xef\xbb\xbf{}", b"\x1f\x8b\x08", b"\x00" * 100),
)
ENVELOPES: Final = (
    *(b'{"specversion":"1.0","data":' + body + b"}" for body in (_request(), b"[]", b'"a"')),
    b'{"data_base64":"e30="}',
    b'{"data_base64":"e30"}',
    b'{"data_base64":{}}',
    b'{"data":' + _request() + b',"data_base64":"bm90IGpzb24="}',
)


def table(*entries: bytes) -> bytes:
    """An AMQP table with these entries, each a name, a type and a value."""
    return b"".join(entries)


def entry(kind: bytes, value: bytes, name: bytes = b"n") -> bytes:
    """One entry of a table."""
    return bytes((len(name),)) + name + kind + value


def _sized(content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + content


VALUES_BY_TYPE: Final[Mapping[bytes, Sequence[bytes]]] = {
    b"t": (b"\x00", b"\x01", b"\xff"),
    b"b": (b"\x80",),
    b"B": (b"\xff",),
    b"s": (b"\x80\x00",),
    b"u": (b"\xff\xff",),
    b"I": (b"\x80\x00\x00\x00",),
    b"i": (b"\xff\xff\xff\xff",),
    b"l": (b"\x80" + b"\x00" * 7,),
    b"L": (b"\xff" * 8,),
    b"f": (b"\x3f\x80\x00\x00", b"\x00\x00\x00\x01"),
    b"d": (b"\x7f\xef" + b"\xff" * 6,),
    b"D": (b"\xff\x7f\xff\xff\xff", b"\x00\x00\x00\x00\x00"),
    b"S": (_sized(b""), _sized(b"text"), _sized(b"\xff\xfe"), _sized(b"\x00")),
    b"A": (_sized(b""), _sized(b"t\x01V"), _sized(b"A\x00\x00\x00\x05A\x00\x00\x00\x00")),
    b"T": (b"\x00" * 8, b"\xff" * 8, struct.pack(">Q", 2**62), struct.pack(">Q", 253402300800)),
    b"F": (_sized(b""), _sized(entry(b"t", b"\x01"))),
    b"V": (b"",),
    b"x": (_sized(b""), _sized(b"\xff\x00")),
}
"""Values of every type that RabbitMQ accepts in a table: AMQP 0-9-1 with its errata."""

REFUSED: Final = (
    *(
        entry(b"U", b"\xff\xff"),
        entry(b"\x00", b""),
        entry(b"?", b""),
        entry(b"F", _sized(b"\x01a?")),
    ),
    *(entry(b"f", b"\x7f\xc0\x00\x00"), entry(b"d", b"\xff\xf0" + b"\x00" * 6)),
)
"""Entries for which RabbitMQ closes the publisher's connection: unknown types, NaN, infinity."""

TRACES: Final = (
    entry(b"S", _sized(b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"), b"traceparent"),
    entry(b"S", _sized(b"\xff" * 10), b"traceparent"),
    entry(b"S", _sized(b"\xc3\xa9" * 2000), b"tracestate"),
    entry(b"I", b"\x00\x00\x00\x01", b"traceparent"),
    entry(b"l", b"\x7f" + b"\xff" * 7, b"x-delivery-count"),
    entry(b"S", _sized(b"20"), b"x-delivery-count"),
    entry(b"t", b"\x01", b"x-delivery-count"),
)
TABLES: Final = (
    *(entry(kind, value) for kind, values in VALUES_BY_TYPE.items() for value in values),
    *(*TRACES, *REFUSED),
    b"".join(TRACES),
    entry(b"t", b"\x01", b"\xe9"),
    entry(b"t", b"\x01", b""),
)
ALL_PROPERTIES: Final = (
    b"\x04json\x04gzip" + _sized(b"") + b"\x02\x09\x01c\x02r1\x0510000\x02m1" + b"\x00" * 8
    + b"\x01t\x05guest\x03app\x00"
)  # fmt: skip
WITH_HEADERS: Final = 1 << 13


def _delivered(flags: int, header_table: bytes, rest: bytes = b"") -> bytes:
    """Input of the target ``deliveries``: flags, table, size of the body, other values."""
    size = len(header_table)
    return struct.pack(">HH", flags, size) + header_table + b"\x00\x02\x01" + rest


DELIVERIES: Final = (
    *(_delivered(WITH_HEADERS, entries) for entries in TABLES),
    _delivered(0xFFFC, b"", ALL_PROPERTIES),
    _delivered(1 << 6, b"", struct.pack(">Q", 2**62)),
    _delivered(1 << 10, b"", b"\x02\xff\xfe"),
    _delivered(0xFFFF, b"", b"\x00\x01" + ALL_PROPERTIES),
)
STREAMS: Final = (
    *(b"\x01\x00\x01\x00\x00\x00\x04\x00\x3c\x00\x3c\xce", b"\x02\x00\x01\x00\x00\x00\x00\xce"),
    *(b"\x02\x00\x01\x00\x00\x00\x05\x00\x3c\x00\x00\x00\xce", b"\x08\x00\x00\x00\x00\x00\x00\xce"),
    *(b"AMQP\x00\x00\x09\x01", b"AM", b"\x01\x00\x00\xff\xff\xff\xff"),
)
MOVIES: Final = (
    b'{"_id":"heat","timeSlots":[{"id":1,"capacity":10,"bookedCount":3}],"version":2}',
    b'[{"_id":{"$oid":"665f1c2ab4e0a1d2c3b4a596"},"timeSlots":[],"at":{"$date":"2026-01-01T00:00:00Z"}}]',
    b'{"_id":"a","timeSlots":[]}\n{"_id":"a","timeSlots":[]}\nnot JSON\n',
    b'{"_id":"a","timeSlots":[{"id":1,"capacity":9007199254740992}]}',
    b'{"_id":"a","timeSlots":[],"x":{"$numberDecimal":"9E9999"},"y":{"$binary":5}}',
    b'{"_id":"a","timeSlots":[],"a.b":1,"$c":2,"\\u0000":3,"":4}',
)
CONNECTIONS: Final = (
    *(bytes((scheme, 0, option)) + b"\x00\x00\x00" for scheme in range(3) for option in range(3)),
    *(bytes((n, 0, 0, 1)) + odd + b"\x00\x00" for n in (0, 2) for odd in (b"/", b"@", b":", b"%")),
)
SEEDS: Final[Mapping[str, Sequence[bytes]]] = {
    "requests": (*(PLAIN + body for body in BODIES), *(STRUCTURED + event for event in ENVELOPES)),
    "envelopes": BODIES,
    "decisions": tuple(bytes(range(start, start + 200)) for start in range(0, 56, 4)),
    "deliveries": DELIVERIES,
    "streams": STREAMS,
    "movies": MOVIES,
    "connections": CONNECTIONS,
}

DICTIONARY: Final = (
    *(f'"{name}":' for name in (*REQUEST, "data", "data_base64", "specversion", "version")),
    *('"_id":', '"timeSlots":', '"id":', '"capacity":', '"bookedCount":', '"$oid":', '"$date":'),
    *('"$numberLong":', '"$numberInt":', '"$numberDecimal":', '"$binary":', '"$regex":'),
    *("true", "false", "null", "9007199254740991", "1e400", "\\ud800", "2026-12-24T19:30:00Z"),
    *("x-delivery-count", "traceparent", "tracestate", "AMQP", "%40", "@", "?tls=true"),
)
"""Tokens for the fuzzer, which would take long to find them by changing single bytes."""
