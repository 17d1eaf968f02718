"""Frames are decoded as pamqp decodes them; where pamqp gives up, what can be read is kept."""

from __future__ import annotations

import struct
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Final

import pamqp.frame
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp.base import Frame
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from worker.broker.wire.decoding import (
    Confirmation,
    Properties,
    body_size,
    read_confirmation,
    read_delivered_message,
    read_properties,
    read_returned_exchange,
)

ALL_PROPERTIES: Final = Properties(
    content_type="application/json",
    content_encoding="identity",
    headers={"x-delivery-count": 3, "traceparent": "00-1"},
    correlation_id="né",
    reply_to="amq.rabbitmq.reply-to.x",
    expiration="60000",
    message_id="m",
    timestamp=datetime(2026, 11, 22, tzinfo=UTC),
    type="t",
    user_id="guest",
    app_id="a",
)


def payload(frame: Frame | ContentHeader) -> bytes:
    return pamqp.frame.marshal(frame, 1)[7:-1]


def header(size: int = 0, **properties: Any) -> bytes:  # noqa: ANN401  # As pamqp has them.
    return payload(ContentHeader(body_size=size, properties=Basic.Properties(**properties)))


def raw_header(flags: int, values: bytes) -> bytes:
    return struct.pack(">HHQH", 60, 0, 3, flags) + values


def deep_table(levels: int) -> bytes:
    table = b""
    for _ in range(levels):
        table = b"\x01aF" + struct.pack(">I", len(table)) + table
    return struct.pack(">I", len(table)) + table


short_texts = st.text(max_size=60).filter(lambda text: 0 < len(text.encode()) < 256)
# pamqp cuts names of headers after 128 bytes when it encodes them.
header_names = short_texts.filter(lambda name: len(name.encode()) <= 128)
times = st.integers(1, 2**32).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))
everything = st.fixed_dictionaries(
    {},
    optional={
        "content_type": short_texts,
        "content_encoding": short_texts,
        "headers": st.dictionaries(header_names, st.integers(-5, 5) | short_texts, min_size=1),
        "delivery_mode": st.sampled_from([1, 2]),
        "priority": st.integers(1, 9),
        "correlation_id": short_texts,
        "reply_to": short_texts,
        "expiration": short_texts,
        "message_id": short_texts,
        "timestamp": times,
        "message_type": short_texts,
        "user_id": short_texts,
        "app_id": short_texts,
    },
)


@given(everything)
def test_properties_are_read_as_pamqp_reads_them(given_properties: dict[str, Any]) -> None:
    expected: dict[str, Any] = dict.fromkeys(Properties.__slots__) | given_properties
    expected["type"] = expected.pop("message_type", None)
    for of_the_broker in ("delivery_mode", "priority"):
        expected.pop(of_the_broker, None)
    assert read_properties(header(**given_properties)) == Properties(**expected)


def test_every_property_is_found_after_every_other() -> None:
    given_properties = asdict(ALL_PROPERTIES)
    given_properties["message_type"] = given_properties.pop("type")
    read = read_properties(header(delivery_mode=2, priority=4, **given_properties))
    assert read == ALL_PROPERTIES


@pytest.mark.parametrize(
    ("flags", "values", "expected"),
    [
        (0, b"", Properties()),
        (1 << 15, b"\x02\xff\xfe", Properties()),
        (1 << 15 | 1 << 10, b"\x02\xff\xfe\x01c", Properties(correlation_id="c")),
        (1 << 13 | 1 << 10, deep_table(5000) + b"\x01c", None),
        (1 << 13 | 1 << 10, b"\x00\x00\x00\x03\x01a?\x01c", None),
        (1 << 13 | 1 << 10, b"\x00\x00\x00\x0b\x01aT" + b"\xff" * 8 + b"\x01c", None),
        (1 << 13, b"\xff\xff\xff\xff", Properties(headers={})),
        (1 << 13, b"\xff\xff", Properties()),
        (1 << 10, b"\xffab", Properties()),
        (1 << 10 | 1 << 6, b"\x01c" + struct.pack(">Q", 2**62), Properties(correlation_id="c")),
        (0xFFFC, b"", Properties()),
        (0xFFFF, b"", Properties()),
    ],
    ids=[
        *("no property", "text that is not UTF-8", "a text after one that is not UTF-8"),
        *("a table nested without end", "a value of unknown type", "a time beyond year 9999"),
        *("a table longer than its frame", "half of a table's length"),
        *("a text longer than its frame", "a timestamp beyond year 9999"),
        *("flags without values", "flags that go on"),
    ],
)
def test_what_does_not_decode_is_left_out_and_the_next_found(
    flags: int, values: bytes, expected: Properties | None
) -> None:
    expected = expected or Properties(headers={}, correlation_id="c")
    assert read_properties(raw_header(flags, values)) == expected


@given(st.integers(0, 0xFFFF), st.binary(max_size=300))
def test_no_properties_can_make_reading_fail(flags: int, values: bytes) -> None:
    read_properties(raw_header(flags, values))


def test_a_header_that_does_not_decode_spoils_no_other() -> None:
    count, beyond_year_9999 = b"\x01nI\x00\x00\x00\x05", b"\x01tT" + b"\xff" * 8
    table = beyond_year_9999 + b"\x02\xff\xfeV" + count
    headers = read_properties(raw_header(1 << 13, struct.pack(">I", len(table)) + table)).headers
    assert headers == {"n": 5}


def test_only_a_large_nested_table_is_left_out() -> None:
    """The time that pamqp takes for it grows with the square of its size."""
    voids = {"small": {"a": None}, "large": {f"{number}": None for number in range(2000)}}
    assert read_properties(header(headers={**voids, "n": 5})).headers == {
        "small": {"a": None},
        "n": 5,
    }


def test_a_delivery_is_read_with_its_tag_and_its_routing_key() -> None:
    method = payload(Basic.Deliver("a-tag", 2**40, redelivered=True, exchange="e", routing_key="k"))
    delivered = read_delivered_message(method, header(4, correlation_id="c"), b"body")
    assert (delivered.tag, delivered.routing_key, delivered.body) == (2**40, "k", b"body")
    assert delivered.properties == Properties(correlation_id="c")


@pytest.mark.parametrize("redelivered", [True, False])
def test_a_delivery_says_whether_it_is_a_redelivery(redelivered: bool) -> None:
    method = payload(Basic.Deliver("a-tag", 7, redelivered, exchange="e", routing_key="k"))
    assert read_delivered_message(method, header(), b"").redelivered is redelivered


def test_a_routing_key_that_does_not_decode_is_left_out() -> None:
    method = payload(Basic.Deliver("a-tag", 7, exchange="e", routing_key="xyz"))
    delivered = read_delivered_message(method.replace(b"xyz", b"\xff\xfe\xfd"), header(), b"")
    assert (delivered.tag, delivered.routing_key) == (7, "")


@pytest.mark.parametrize("multiple", [True, False])
def test_a_confirmation_is_read_with_its_tag_and_its_kind(multiple: bool) -> None:
    ack, nack = Basic.Ack(2**33, multiple), Basic.Nack(5, multiple, requeue=True)
    assert read_confirmation(payload(ack)) == Confirmation(2**33, multiple, is_ack=True)
    assert read_confirmation(payload(nack)) == Confirmation(5, multiple, is_ack=False)


def test_a_returned_message_names_its_exchange() -> None:
    assert read_returned_exchange(payload(Basic.Return(312, "NO_ROUTE", "events", "k"))) == "events"


def test_a_header_says_how_much_body_follows() -> None:
    assert body_size(header(2**35)) == 2**35
