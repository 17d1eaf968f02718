"""The frames of a message are those that pamqp encodes, byte for byte."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

import pamqp.frame
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pamqp.base import Frame
from pamqp.body import ContentBody
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from worker.broker.messages import Message
from worker.broker.wire.encoding import publish_frames

SHORT: Final = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
# pamqp omits an empty string, too.
OPTIONAL: Final = st.none() | SHORT.filter(bool)
MESSAGES: Final = st.builds(
    Message,
    exchange=st.sampled_from(["", "reservations.events"]),
    routing_key=SHORT,
    body=st.binary(max_size=300),
    # pamqp cuts names of headers at 128 bytes; the worker's are far shorter.
    headers=st.dictionaries(st.text(max_size=32), SHORT, max_size=5),
    mandatory=st.booleans(),
    content_type=OPTIONAL,
    content_encoding=OPTIONAL,
    correlation_id=OPTIONAL,
    reply_to=OPTIONAL,
    message_id=OPTIONAL,
    type=OPTIONAL,
    timestamp=st.none()
    | st.datetimes(datetime(1970, 1, 1), datetime(9999, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
)
PLAIN: Final = Message(exchange="", routing_key="", body=b"", headers={}, mandatory=False)


def by_pamqp(channel_number: int, body_bytes_max: int, message: Message) -> bytes:
    publish = Basic.Publish(
        exchange=message.exchange, routing_key=message.routing_key, mandatory=message.mandatory
    )
    properties = Basic.Properties(
        app_id="reservation-worker",
        content_encoding=message.content_encoding,
        content_type=message.content_type,
        correlation_id=message.correlation_id,
        delivery_mode=2,
        headers=dict(message.headers),
        message_id=message.message_id,
        message_type=message.type,
        reply_to=message.reply_to,
        timestamp=message.timestamp,
    )
    starts = range(0, len(message.body), body_bytes_max)
    frames: list[Frame | ContentHeader | ContentBody] = [
        publish,
        ContentHeader(body_size=len(message.body), properties=properties),
        *(ContentBody(message.body[start : start + body_bytes_max]) for start in starts),
    ]
    return b"".join(pamqp.frame.marshal(frame, channel_number) for frame in frames)


@given(MESSAGES, st.integers(1, 200), st.integers(1, 65_535))
@example(PLAIN, 100, 1)
def test_every_message_is_encoded_as_pamqp_encodes_it(
    message: Message, body_bytes_max: int, channel_number: int
) -> None:
    # pamqp sorts the headers, and omits an empty table.
    message = with_headers(message, dict(sorted(message.headers.items())) or {"ce-id": "1"})
    written = publish_frames(channel_number, body_bytes_max, message)
    assert written == by_pamqp(channel_number, body_bytes_max, message)


def with_headers(message: Message, headers: dict[str, str]) -> Message:
    fields = {name: getattr(message, name) for name in Message.__slots__}
    return Message(**{**fields, "headers": headers})


def test_a_body_is_split_at_the_limit_of_a_frame() -> None:
    message = Message("", "q", b"abcdefg", {}, mandatory=False)
    for part in (b"abc\xce", b"def\xce", b"g\xce"):
        assert part in publish_frames(1, 3, message)


@pytest.mark.parametrize("name", ["exchange", "routing_key", "correlation_id", "message_id"])
def test_a_string_of_255_bytes_fits_and_a_longer_one_is_refused(name: str) -> None:
    fields = {name: getattr(PLAIN, name) for name in Message.__slots__}
    assert publish_frames(1, 100, Message(**{**fields, name: "é" * 127 + "e"}))
    with pytest.raises(ValueError, match="too long"):
        publish_frames(1, 100, Message(**{**fields, name: "é" * 128}))
