"""Reading a request: which is valid, which breaks a rule, and what cannot be read at all."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts import (
    BODY_BYTES_MAX,
    InvalidRequest,
    ReservationRequest,
    UnreadableRequest,
    read_request,
)

VALID: Final[dict[str, object]] = {
    "requestId": "5b0c5a0e-7e1c-4c53-9a53-0d3f7f6c2f11",
    "movieId": "665f1c2ab4e0a1d2c3b4a596",
    "timeSlotId": 3,
    "numberOfPeople": 2,
}
REQUEST: Final = ReservationRequest(
    request_id="5b0c5a0e-7e1c-4c53-9a53-0d3f7f6c2f11",
    movie_id="665f1c2ab4e0a1d2c3b4a596",
    time_slot_id=3,
    number_of_people=2,
)

Read = ReservationRequest | InvalidRequest | UnreadableRequest


def body(**changes: object) -> bytes:
    return json.dumps({**VALID, **changes}).encode()


def without(name: str) -> bytes:
    return json.dumps({key: value for key, value in VALID.items() if key != name}).encode()


def problems(read: Read) -> dict[str, str]:
    assert isinstance(read, InvalidRequest)
    return {error.field: error.problem for error in read.errors}


def detail(read: Read) -> str:
    assert isinstance(read, UnreadableRequest)
    return read.detail


def test_the_example_of_the_contract_is_read() -> None:
    read = read_request(body(expiresAt="2026-12-24T19:30:00Z"))
    expires_at = datetime(2026, 12, 24, 19, 30, tzinfo=UTC)
    assert read == REQUEST.model_copy(update={"expires_at": expires_at})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("requestId", "a"),
        ("requestId", "A" * 64),
        ("requestId", "azAZ09._:-"),
        ("movieId", "m"),
        ("movieId", "M" * 64),
        ("movieId", "azAZ09_-"),
        ("timeSlotId", 0),
        ("timeSlotId", 2**53 - 1),
        ("numberOfPeople", 1),
        ("numberOfPeople", 1000),
        ("expiresAt", None),
        ("expiresAt", "2026-12-24T19:30:00+01:00"),
        ("expiresAt", "2026-12-24T19:30:00-00:00"),
        ("expiresAt", "2026-12-24t19:30:00.123456789z"),
        ("expiresAt", "0001-01-01T00:00:00+23:59"),
        ("expiresAt", "9999-12-31T23:59:59-23:59"),
        ("comment", {"unknown": ["fields", "are", "ignored"]}),
    ],
)
def test_a_value_at_the_edge_of_its_rule_is_accepted(field: str, value: object) -> None:
    assert isinstance(read_request(body(**{field: value})), ReservationRequest)


BROKEN: Final[dict[str, Sequence[object]]] = {
    "movieId": ("", "M" * 65, "a b", "é", "a\n", "a\0", "a.b", 5, None, [], {}),
    "timeSlotId": (-1, 2**53, 10**30, 10**4000, 3.0, 1e300, "3", True, None, [], {}),
    "numberOfPeople": (0, 1001, -1, 2.0, 0.5, "2", False, None, [2], {"n": 2}),
    "expiresAt": (
        *(5, 0.5, True, [], {}, "", "soon"),
        "2026-12-24",
        "2026-12-24T19:30:00",
        "2026-12-24 19:30:00Z",
        "2026-12-24T19:30Z",
        "2026-02-30T19:30:00Z",
        "2026-12-24T24:00:00Z",
        "2026-12-24T19:30:00+24:00",
        "2026-12-24T19:30:00+05:60",
        "2026-12-24T19:30:00,5Z",
        "0000-01-01T00:00:00Z",
        "٢026-12-24T19:30:00Z",
        "2026-12-24T19:30:00.123456٢Z",
    ),
}


@pytest.mark.parametrize(
    ("field", "value"), [(field, value) for field, values in BROKEN.items() for value in values]
)
def test_a_value_that_breaks_its_rule_makes_the_request_invalid(field: str, value: object) -> None:
    read = read_request(body(**{field: value}))
    assert set(problems(read)) == {field}


@pytest.mark.parametrize("field", ["movieId", "timeSlotId", "numberOfPeople"])
def test_a_missing_required_field_makes_the_request_invalid(field: str) -> None:
    assert problems(read_request(without(field)))[field].startswith("is required")


@pytest.mark.parametrize(
    "value", ["", "x" * 65, "a b", "a/b", "é", "a\n", "a\0", 5, 5.5, True, None, [], {}]
)
def test_a_body_whose_request_id_breaks_its_rule_cannot_be_read(value: object) -> None:
    assert "requestId" in detail(read_request(body(requestId=value)))


def test_a_body_without_a_request_id_cannot_be_read() -> None:
    rule = "1 to 64 characters of A-Z a-z 0-9 . _ : -"
    assert detail(read_request(without("requestId"))) == f"requestId is required: {rule}"


def test_valid_fields_are_kept_and_the_others_explained() -> None:
    read = read_request(body(timeSlotId="3", numberOfPeople=1001))
    assert isinstance(read, InvalidRequest)
    assert read.movie_id == VALID["movieId"]
    assert (read.time_slot_id, read.number_of_people) == (None, None)
    assert problems(read) == {
        "timeSlotId": 'must be an integer from 0 to 9007199254740991, not "3"',
        "numberOfPeople": "must be an integer from 1 to 1000, not 1001",
    }


def test_all_faults_of_a_body_are_reported_at_once() -> None:
    read = read_request(b'{"requestId": "r", "movieId": "", "expiresAt": 1}')
    assert list(problems(read)) == ["movieId", "timeSlotId", "numberOfPeople", "expiresAt"]


def test_long_values_that_differ_at_the_end_differ_in_problem() -> None:
    first, second = (problems(read_request(body(movieId="x" * 9000 + end))) for end in "ab")
    assert first != second
    assert len(first["movieId"]) < 250


@pytest.mark.parametrize("name", ["request_id", "movie_id", "time_slot_id", "number_of_people"])
def test_the_names_of_python_are_not_accepted_on_the_wire(name: str) -> None:
    first, *rest = name.split("_")
    wire_name = first + "".join(word.capitalize() for word in rest)
    value = VALID[wire_name]
    faulty = json.loads(without(wire_name)) | {name: value}
    assert not isinstance(read_request(json.dumps(faulty).encode()), ReservationRequest)


def test_of_a_duplicate_name_the_last_value_counts() -> None:
    start = b'{"requestId":"a","movieId":"m","timeSlotId":3,"numberOfPeople":2,'
    for end in (b'"requestId":"b"}', b'"movieId":"", "movieId":"m", "requestId":"b"}'):
        read = read_request(start + end)
        assert isinstance(read, ReservationRequest)
        assert read.request_id == "b"
    assert "numberOfPeople" in problems(read_request(start + b'"numberOfPeople":0}'))
    assert detail(read_request(start + b'"requestId":"!"}'))


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b" ",
        b"{",
        b"not JSON",
        b"\xff\xfe",
        b"\x1f\x8b\x08\x00",
        b'{"requestId": "a"} {}',
        b"{'requestId': 'a'}",
        b'\xef\xbb\xbf{"requestId": "a"}',
        b'{"requestId": "a", "x": "\xff"}',
        b'{"requestId": "a", "x": "\\ud800"}',
        b'{"requestId": "a", "x": "\x00"}',
        b'{"requestId": "a", "x": ' + b"[" * 30_000 + b"]" * 30_000 + b"}",
        b'{"requestId": "a", "x": ' + b"9" * 60_000 + b"}",
    ],
)
def test_what_no_json_reader_can_read_is_unreadable(text: bytes) -> None:
    assert "not JSON" in detail(read_request(text))


@pytest.mark.parametrize("word", [b"NaN", b"Infinity", b"-Infinity"])
def test_nan_and_infinity_are_not_json(word: bytes) -> None:
    whole = body()[:-1]
    assert isinstance(read_request(whole + b', "x": ' + word + b"}"), UnreadableRequest)
    assert isinstance(
        read_request(whole + b', "numberOfPeople": ' + word + b"}"), UnreadableRequest
    )


@pytest.mark.parametrize("text", [b"null", b"true", b"5", b'"text"', b"[]", b"[{}]"])
def test_json_that_is_not_an_object_cannot_be_read(text: bytes) -> None:
    assert "not a JSON object" in detail(read_request(text))


def test_a_body_may_have_64_kib_and_no_byte_more() -> None:
    assert BODY_BYTES_MAX == 65_536
    padding = BODY_BYTES_MAX - len(body(comment=""))
    assert isinstance(read_request(body(comment="x" * padding)), ReservationRequest)
    assert str(BODY_BYTES_MAX) in detail(read_request(body(comment="x" * (padding + 1))))


def test_an_expiry_is_a_point_in_time_whatever_its_offset() -> None:
    read = read_request(body(expiresAt="2026-12-24T19:30:00.5+05:30"))
    assert isinstance(read, ReservationRequest)
    offset = timezone(timedelta(hours=5, minutes=30))
    assert read.expires_at == datetime(2026, 12, 24, 19, 30, 0, 500_000, tzinfo=offset)


@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
def test_no_bytes_make_reading_raise(text: bytes) -> None:
    for content_type in (None, "application/json", "application/cloudevents+json"):
        assert isinstance(read_request(text, content_type), UnreadableRequest | InvalidRequest)


JSON: Final = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from([*VALID, "expiresAt", "x"]), JSON))
def test_no_fields_make_reading_raise_or_mistake_a_type(
    fields: dict[str, object],
) -> None:
    read = read_request(json.dumps(VALID | fields).encode())
    if not isinstance(read, UnreadableRequest):
        assert read.request_id == (VALID | fields)["requestId"]
    if isinstance(read, ReservationRequest):
        for name in ("timeSlotId", "numberOfPeople"):
            assert type((VALID | fields)[name]) is int
