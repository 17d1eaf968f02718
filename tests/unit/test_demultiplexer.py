"""Intercepted frames arrive as whole messages; all others reach the client unchanged."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from itertools import pairwise
from typing import Final

import pamqp.frame
from hypothesis import given
from hypothesis import strategies as st
from pamqp.body import ContentBody
from pamqp.commands import Basic, Connection
from pamqp.header import ContentHeader
from pamqp.heartbeat import Heartbeat

from worker.broker.wire.decoding import DeliveredMessage, read_delivered_message
from worker.broker.wire.demultiplexer import HEARTBEAT, Demultiplexer

CHANNEL: Final = 1
OTHER_CHANNEL: Final = 2


def delivery(tag: int, *bodies: bytes, channel: int = CHANNEL, routing_key: str = "heat") -> bytes:
    deliver = Basic.Deliver("ctag", tag, redelivered=True, exchange="e", routing_key=routing_key)
    return pamqp.frame.marshal(deliver, channel) + content(*bodies, channel=channel)


def content(*bodies: bytes, channel: int = CHANNEL) -> bytes:
    properties = Basic.Properties(correlation_id="c", content_type="t")
    header = ContentHeader(body_size=sum(map(len, bodies)), properties=properties)
    frames = [pamqp.frame.marshal(ContentBody(body), channel) for body in bodies]
    return b"".join([pamqp.frame.marshal(header, channel), *frames])


def method(frame: pamqp.frame.FrameTypes, channel: int = CHANNEL) -> bytes:
    return pamqp.frame.marshal(frame, channel)


RETURNED: Final = method(Basic.Return(312, "NO_ROUTE", "e", "heat")) + content(b"back")
INTERCEPTED: Final = [
    delivery(1, b"one"),
    delivery(2),
    delivery(3, b"in ", b"two ", b"frames"),
    delivery(4, b"\xce\x01AMQP"),
    method(Basic.Ack(5, multiple=True)),
    method(Basic.Nack(6)),
    RETURNED,
]
PASSED: Final = [
    method(Heartbeat(), 0),
    method(Connection.Blocked("low on memory"), 0),
    method(Basic.CancelOk("ctag")),
    method(Basic.Ack(5), OTHER_CHANNEL),
    delivery(9, b"of another channel", channel=OTHER_CHANNEL),
    method(Basic.GetOk(1, exchange="e", routing_key="k", message_count=0)) + content(b"asked for"),
]

Message = tuple[bytes, bytes, bytes]


def demultiplexed(chunks: Iterable[bytes]) -> tuple[list[Message], bytes]:
    """The messages for the channel, and the bytes that were passed on."""
    intercepted: list[Message] = []
    passed: list[bytes] = []
    demultiplexer = Demultiplexer(passed.append)
    demultiplexer.route(CHANNEL, lambda *message: intercepted.append(message))
    for chunk in chunks:
        demultiplexer(chunk)
    return intercepted, b"".join(passed)


@given(st.lists(st.sampled_from([*INTERCEPTED, *PASSED])), st.lists(st.integers(0, 900)))
def test_all_arrives_whole_and_in_order_however_it_is_cut(
    messages: list[bytes], cuts: list[int]
) -> None:
    stream = b"".join(messages)
    edges = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    intercepted, passed = demultiplexed(stream[start:end] for start, end in pairwise(edges))
    assert intercepted == [
        demultiplexed([message])[0][0] for message in messages if message in INTERCEPTED
    ]
    expected = b"".join(message for message in messages if message in PASSED)
    assert passed.replace(HEARTBEAT, b"") == expected.replace(HEARTBEAT, b"")


def test_a_delivery_is_assembled_from_its_frames() -> None:
    (message,), _ = demultiplexed([delivery(3, b"in ", b"two ", b"frames")])
    delivered = read_delivered_message(*message)
    assert (delivered.tag, delivered.routing_key, delivered.body) == (3, "heat", b"in two frames")
    assert (delivered.properties.correlation_id, delivered.properties.content_type) == ("c", "t")


def test_deliveries_on_two_channels_do_not_mix() -> None:
    first, second = delivery(1, b"first"), delivery(2, b"second", channel=OTHER_CHANNEL)
    intercepted: list[DeliveredMessage] = []
    demultiplexer = Demultiplexer(lambda _: None)
    for channel in (CHANNEL, OTHER_CHANNEL):
        demultiplexer.route(
            channel, lambda *message: intercepted.append(read_delivered_message(*message))
        )
    size_of_method = 8 + struct.unpack_from(">I", first, 3)[0]
    demultiplexer(first[:size_of_method] + second + first[size_of_method:])
    assert [delivered.body for delivered in intercepted] == [b"second", b"first"]


def test_intercepted_frames_still_count_as_a_sign_of_life() -> None:
    """The client closes a connection on which it receives nothing for three heartbeats."""
    _, passed = demultiplexed([delivery(1, b"one")])
    assert passed == method(Heartbeat(), 0)


def test_the_answer_of_another_protocol_is_passed_on() -> None:
    assert demultiplexed([b"AMQP\x01\x01\x00\x0a"]) == ([], b"AMQP\x01\x01\x00\x0a")


def test_a_header_that_is_cut_short_is_left_to_the_client() -> None:
    cut_short = b"\x02\x00\x01\x00\x00\x00\x04\x00\x3c\x00\x00\xce"
    begun = delivery(1, b"one")[: 8 + struct.unpack_from(">I", delivery(1, b"one"), 3)[0]]
    assert demultiplexed([begun + cut_short]) == ([], cut_short)


def test_a_garbled_stream_is_left_to_the_client_from_there_on() -> None:
    garbled = method(Basic.Ack(5, multiple=True))[:-1] + b"\x00"
    rest = garbled + delivery(2, b"two")
    intercepted, passed = demultiplexed([delivery(1, b"one"), rest, delivery(3, b"three")])
    assert [read_delivered_message(*message).tag for message in intercepted] == [1]
    assert passed == HEARTBEAT + rest + delivery(3, b"three")
