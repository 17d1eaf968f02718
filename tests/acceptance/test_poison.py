"""Requests that are made to hurt: they may come to nothing, but nobody else's request may.

What a publisher writes into the properties of a message goes through the broker unread, so it
first meets a parser in the worker, and some of it meets the broker again in the reply.
"""

from __future__ import annotations

import base64
import json
import struct
from typing import Final

import pytest

from tests.acceptance.cinema import Cinema, request_for, slots
from tests.fuzz.seeds import TRACES, VALUES_BY_TYPE, entry

TIMESTAMP, CORRELATION_ID, HEADERS = (struct.pack(">H", 1 << bit) for bit in (6, 10, 13))
"""The flags before the properties of a message: which one follows (AMQP 0-9-1, 4.2.6.1)."""


def table(content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + content


UNREADABLE: Final = {
    "a time in nanoseconds": TIMESTAMP + struct.pack(">Q", 1_790_000_000_000_000_000),
    "a correlation id in Latin-1": CORRELATION_ID + b"\x02\xe9\xe8",
    "a time beyond all years in a header": HEADERS + table(b"\x01tT" + struct.pack(">Q", 2**62)),
    "the name of a header in Latin-1": HEADERS + table(b"\x02\xe9\xe8t\x01"),
}


@pytest.mark.parametrize("properties", UNREADABLE.values(), ids=UNREADABLE.keys())
async def test_properties_that_no_client_can_read_do_no_harm(
    cinema: Cinema, properties: bytes
) -> None:
    await cinema.client.leave_dead_letters()
    movie = await cinema.show(*slots(1000))
    requests = [request_for(movie) for _ in range(50)]
    await cinema.client.publish_all(requests[:25])
    strange = request_for(movie)
    await cinema.client.publish_raw(strange, properties)
    await cinema.client.publish_all(requests[25:])
    await cinema.start_worker()
    names = [request["requestId"] for request in (*requests, strange)]
    await cinema.client.outcomes(names, seconds=10)
    await cinema.stop_workers()
    assert await cinema.client.depth("reservations.dead-letters") == 0


async def test_headers_of_every_type_do_no_harm(cinema: Cinema) -> None:
    movie = await cinema.show(*slots(1000))
    entries = [entry(kind, value) for kind, values in VALUES_BY_TYPE.items() for value in values]
    requests = [request_for(movie) for _ in (*entries, *TRACES)]
    for request, header in zip(requests, (*entries, *TRACES), strict=True):
        await cinema.client.publish_raw(request, HEADERS + table(header))
    await cinema.start_worker()
    await cinema.client.outcomes([request["requestId"] for request in requests], seconds=10)
    await cinema.stop_workers()
    assert cinema.client.received_dead_letters == []


def direct_reply_to(node: bytes, identity: int) -> str:
    """An address as RabbitMQ makes them: a process in Erlang's external format, and a key."""
    name = struct.pack(">H", len(node)) + node
    process = b"\x83Xv" + name + struct.pack(">III", identity, 0, 1)
    parts = (base64.b64encode(part).decode() for part in (process, b"0123456789abcdef"))
    return "amq.rabbitmq.reply-to." + ".".join(parts)


REPLY_ADDRESSES: Final = {
    "a bare name": "amq.rabbitmq.reply-to.",
    "no address at all": "amq.rabbitmq.reply-to.forged.address",
    "a node that is gone": direct_reply_to(b"reply@48932229", 23_385),
    "a process that cannot be": direct_reply_to(b"reply@48932228", 2**32 - 1),
    "a node in Latin-1": direct_reply_to("réply@1".encode("latin-1"), 23_385),
    "a NUL": "\0",
    "a long one": "é" * 120,
}


@pytest.mark.parametrize("address", REPLY_ADDRESSES.values(), ids=REPLY_ADDRESSES.keys())
async def test_a_reply_address_that_hurts_the_broker_does_no_harm(
    cinema: Cinema, address: str
) -> None:
    movie = await cinema.show(*slots(1000))
    requests = [request_for(movie) for _ in range(50)]
    await cinema.client.publish_all(requests[:25])
    forged = request_for(movie)
    await cinema.client.publish(forged, reply_to=address)
    await cinema.client.publish_all(requests[25:])
    await cinema.start_worker()
    names = [request["requestId"] for request in (*requests, forged)]
    await cinema.client.outcomes(names, seconds=10)
    await cinema.stop_workers()
    dead_letters = [
        (json.loads(dead_letter.body), dead_letter.error)
        for dead_letter in cinema.client.received_dead_letters
    ]
    assert dead_letters in ([], [(forged, "undeliverable")])
