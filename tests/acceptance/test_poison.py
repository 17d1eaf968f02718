"""Requests that are made to hurt: they may come to nothing, but nobody else's request may.

What a publisher writes into the properties of a message goes through the broker unread, so it
first meets a parser in the worker, and some of it meets the broker again in the reply.
"""

from __future__ import annotations

import struct
from typing import Final

import pytest

from tests.acceptance.cinema import Cinema, request_for, slots

TIMESTAMP, CORRELATION_ID, HEADERS = (struct.pack(">H", 1 << bit) for bit in (6, 10, 13))
"""The flags before the properties of a message: which one follows (AMQP 0-9-1, 4.2.6.1)."""


def table(entry: bytes) -> bytes:
    return struct.pack(">I", len(entry)) + entry


UNREADABLE: Final = {
    "a time in nanoseconds": TIMESTAMP + struct.pack(">Q", 1_790_000_000_000_000_000),
    "a correlation id in Latin-1": CORRELATION_ID + b"\x02\xe9\xe8",
    "a time beyond all years in a header": HEADERS + table(b"\x01tT" + struct.pack(">Q", 2**62)),
    "the name of a header in Latin-1": HEADERS + table(b"\x02\xe9\xe8t\x01"),
}


@pytest.mark.parametrize("properties", UNREADABLE.values(), ids=UNREADABLE.keys())
async def test_properties_that_no_client_can_read_do_no_harm_to_other_requests(
    cinema: Cinema, properties: bytes
) -> None:
    await cinema.client.leave_letters()
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


@pytest.mark.parametrize(
    "address", ["amq.rabbitmq.reply-to.forged.address", "amq.rabbitmq.reply-to.", "\0", "é" * 120]
)
async def test_a_forged_reply_address_does_no_harm_to_anyone(cinema: Cinema, address: str) -> None:
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
    assert cinema.client.letters == []
