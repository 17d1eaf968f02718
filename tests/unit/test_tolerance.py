"""The filter before the client: good frames pass untouched, and no bad one gets through."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from itertools import pairwise
from typing import Final

import pamqp.frame
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp.body import ContentBody
from pamqp.commands import Basic
from pamqp.header import ContentHeader
from pamqp.heartbeat import Heartbeat

from worker.broker.tolerance import FrameFilter


def delivery(tag: int, routing_key: str = "heat") -> bytes:
    frame = Basic.Deliver("ctag", tag, redelivered=True, exchange="e", routing_key=routing_key)
    return pamqp.frame.marshal(frame, 1)


def header(size: int, correlation_id: str | None = None) -> bytes:
    named = Basic.Properties(correlation_id=correlation_id, content_type="t")
    return pamqp.frame.marshal(ContentHeader(body_size=size, properties=named), 1)


def raw_header(size: int, flags: int, values: bytes) -> bytes:
    payload = struct.pack(">HHQH", 60, 0, size, flags) + values
    return struct.pack(">BHI", 2, 1, len(payload)) + payload + b"\xce"


def body(content: bytes) -> bytes:
    return pamqp.frame.marshal(ContentBody(content), 1)


GOOD: Final = [
    delivery(1) + header(3, "c") + body(b"one"),
    pamqp.frame.marshal(Heartbeat(), 0),
    pamqp.frame.marshal(Basic.Ack(5, multiple=True), 1),
    delivery(2) + header(0) + body(b""),
    delivery(3) + header(4) + body(b"\xce\x01AMQP"),
]


def deep_table(levels: int) -> bytes:
    table = b""
    for _ in range(levels):
        table = b"\x01aF" + struct.pack(">I", len(table)) + table
    return struct.pack(">I", len(table)) + table


UNDECODABLE: Final = {
    "a text that is no UTF-8": (1 << 10, b"\x02\xff\xfe"),
    "a time beyond all years": (1 << 6, struct.pack(">Q", 2**62)),
    "a table nested without end": (1 << 13, deep_table(5000)),
    "a value of no known type": (1 << 13, b"\x00\x00\x00\x03\x01a?"),
    "a table longer than its frame": (1 << 13, b"\xff\xff\xff\xff"),
    "flags without values": (0xFFFC, b""),
}


def filtered(chunks: Iterable[bytes]) -> bytes:
    passed: list[bytes] = []
    frames = FrameFilter(passed.append)
    for chunk in chunks:
        frames(chunk)
    return b"".join(passed)


def decoded(data: bytes) -> list[object]:
    found: list[object] = []
    while data:
        size, _, frame = pamqp.frame.unmarshal(data)
        found.append(frame)
        data = data[size:]
    return found


@given(st.lists(st.sampled_from(GOOD)), st.lists(st.integers(0, 500)))
def test_good_frames_pass_untouched_however_the_network_cuts_them(
    frames: list[bytes], cuts: list[int]
) -> None:
    stream = b"".join(frames)
    edges = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    chunks = [stream[start:end] for start, end in pairwise(edges)]
    assert filtered(chunks) == stream


@pytest.mark.parametrize(("flags", "values"), UNDECODABLE.values(), ids=UNDECODABLE.keys())
def test_properties_that_cannot_be_decoded_are_left_out_and_the_body_stays(
    flags: int, values: bytes
) -> None:
    stream = GOOD[0] + delivery(7) + raw_header(3, flags, values) + body(b"bad") + GOOD[2]
    for size in (1, 7, len(stream)):
        chunks = [stream[start : start + size] for start in range(0, len(stream), size)]
        frames = decoded(filtered(chunks))
        assert [type(frame) for frame in frames] == [
            *(Basic.Deliver, ContentHeader, ContentBody),
            *(Basic.Deliver, ContentHeader, ContentBody, Basic.Ack),
        ]
        _, _, _, deliver, bare, content, _ = frames
        assert isinstance(deliver, Basic.Deliver)
        assert isinstance(bare, ContentHeader)
        assert isinstance(content, ContentBody)
        assert (deliver.delivery_tag, deliver.routing_key) == (7, "heat")
        assert bare.body_size == 3
        assert not bare.properties.correlation_id
        assert content.value == b"bad"


def test_a_delivery_with_an_undecodable_routing_key_keeps_its_consumer_and_its_tag() -> None:
    good = delivery(7, "xyz")
    (frame,) = decoded(filtered([good.replace(b"xyz", b"\xff\xfe\xfd")]))
    assert isinstance(frame, Basic.Deliver)
    assert (frame.consumer_tag, frame.delivery_tag, frame.redelivered) == ("ctag", 7, True)


def test_a_server_that_speaks_another_protocol_is_heard() -> None:
    assert filtered([b"AMQP\x01\x01\x00\x0a"]) == b"AMQP\x01\x01\x00\x0a"
