"""The fuzz targets: each is given bytes, and raises an error if a property does not hold.

A target must raise nothing otherwise, whatever the bytes. The same targets run with hypothesis and
the seeds in every test run, and with a coverage-guided fuzzer in ``make fuzz``.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable, Iterable, Mapping
from typing import Final

import pamqp.frame
from pamqp.body import ContentBody
from pamqp.header import ContentHeader

from contracts import InvalidRequest, OutcomeEvent, UnreadableRequest, read_request
from contracts.messages import ReservationRequest
from tests.fuzz import model
from tests.fuzz.choices import Choices
from tests.fuzz.connections import connections
from tests.fuzz.files import movies
from tests.unit.values import NOW
from worker.broker.consumer import delivery_of
from worker.broker.messages import Delivery
from worker.broker.wire.decoding import read_delivered_message
from worker.broker.wire.demultiplexer import HEARTBEAT, Demultiplexer
from worker.broker.wire.encoding import publish_frames
from worker.rules.decision import Decision, Reused, Undecidable, decide
from worker.rules.snapshot import Malformed, Movie, Snapshot, TimeSlot
from worker.service.announcement import announcement

CONTENT_TYPES: Final = (
    None,
    "application/json",
    "application/cloudevents+json",
    " Application/CloudEvents+JSON ; charset=utf-8",
)
BODY_FRAME_BYTES_MAX: Final = 131_064
"""What RabbitMQ's default frame size of 128 KiB leaves for a body."""

NOW_MICROSECONDS: Final = model.microseconds_of("2026-11-22T18:00:00.123Z") or 0
IDS: Final = ("a", "b", "c", "d.-_:")
MOVIES: Final = ("heat", "alien", "665f1c2ab4e0a1d2c3b4a596", "no-such-movie")
TIMES: Final = (
    '"2026-11-22T18:00:00.123Z"',
    '"2026-11-22T18:00:00.122999Z"',
    '"2026-11-22T23:30:00.123+05:30"',
    '"2026-11-22T17:59:59-00:01"',
    '"2026-11-22"',
    "null",
)
WRONG: Final = ("null", "-1", "2.0", '"1"', "true", "[]", "1e400", "9007199254740992", '"\\u00e9"')


def requests(data: bytes) -> None:
    """A body is read as the model reads it, and its answer can be published."""
    choices = Choices(data)
    content_type = choices.one_of(CONTENT_TYPES)
    body = choices.rest()
    read = read_request(body, content_type)
    require_as_expected(read, model.read(body, content_type))
    if isinstance(read, ReservationRequest):
        assert read_request(read.to_json()) == read
    delivery = Delivery(1, body, "heat", content_type=content_type)
    require_publishable(delivery, answer_to(read))


def answer_to(
    read: ReservationRequest | InvalidRequest | UnreadableRequest,
) -> Decision | UnreadableRequest:
    """The decision on a request when there are no movies."""
    if isinstance(read, UnreadableRequest):
        return read
    (decision,) = decide([read], Snapshot({}, {}), NOW).decisions
    return decision


def require_as_expected(
    read: ReservationRequest | InvalidRequest | UnreadableRequest, expected: model.Expected | None
) -> None:
    """Raises AssertionError unless the model agrees with what was read."""
    if isinstance(read, UnreadableRequest) or expected is None:
        assert isinstance(read, UnreadableRequest), f"{read} from a body without a valid id"
        assert expected is None, f"{read.detail}, but the model reads {expected}"
        return
    invalid = {e.field for e in read.errors} if isinstance(read, InvalidRequest) else set[str]()
    assert read.request_id == expected.request_id
    assert invalid == expected.invalid.keys()
    asked = (read.movie_id, read.time_slot_id, read.number_of_people)
    assert asked == tuple(expected.fields.get(name) for name in model.FIELDS[:3])
    if isinstance(read, ReservationRequest):
        text = expected.fields["expiresAt"]
        # A time before the year 1 or after 9999, which an offset can make, has no other form.
        assert (read.expires_at is None) == (text is None)


def require_publishable(delivery: Delivery, answer: Decision | UnreadableRequest) -> None:
    """Raises AssertionError unless the answer's frames decode to the same message."""
    for message in announcement(delivery, answer):
        data = publish_frames(1, BODY_FRAME_BYTES_MAX, message)
        frames = []
        while data:
            size, _, frame = pamqp.frame.unmarshal(data)
            frames.append(frame)
            data = data[size:]
        header, bodies = frames[1], frames[2:]
        assert isinstance(header, ContentHeader)
        assert header.properties.headers == dict(message.headers)
        assert header.properties.correlation_id == message.correlation_id
        assert header.body_size == len(message.body)
        assert message.body == b"".join(f.value for f in bodies if isinstance(f, ContentBody))


def decisions(data: bytes) -> None:
    """Batches are decided as the model decides one request after another."""
    choices = Choices(data)
    stored = {movie: _time_slots(choices) for movie in MOVIES[:3] if choices.number(3)}
    expected = model.Model(
        {movie: {n: _seats(slot) for n, slot in slots.items()} for movie, slots in stored.items()},
        NOW_MICROSECONDS,
    )
    movies = {name: Movie(name, choices.number(3), slots) for name, slots in stored.items()}
    ledger: dict[str, OutcomeEvent] = {}
    while choices:
        bodies = [_body(choices) for _ in range(1 + choices.number(7))]
        read = [(body, read_request(body)) for body in bodies]
        batch = [r for _, r in read if not isinstance(r, UnreadableRequest)]
        decided = decide(batch, Snapshot(movies, ledger), NOW)
        answers = [_kind(decision) for decision in decided.decisions]
        readable = [body for body, r in read if not isinstance(r, UnreadableRequest)]
        assert answers == [expected.answer(model.read(body, None)) for body in readable]
        ledger |= {outcome.request_id: outcome for outcome in decided.outcomes}
        for booking in decided.bookings:
            name = str(booking.movie.key)
            movies[name] = _booked(booking.movie, booking.people)
    for name, movie in movies.items():
        left = {number: _seats(slot) for number, slot in movie.time_slots.items()}
        assert left == expected.seats[name]


def _time_slots(choices: Choices) -> dict[int, TimeSlot | Malformed]:
    return {
        number: Malformed("no number") if capacity == 13 else TimeSlot(capacity, choices.number(9))
        for number in range(3)
        for capacity in [choices.number(13)]
    }


def _seats(slot: TimeSlot | Malformed) -> int | None:
    return slot.capacity - slot.booked_count if isinstance(slot, TimeSlot) else None


def _booked(movie: Movie, people: Mapping[int, int]) -> Movie:
    """The movie as stored after the commit."""
    slots = dict(movie.time_slots)
    for number, more in people.items():
        slot = slots[number]
        assert isinstance(slot, TimeSlot)
        assert slot.booked_count + more <= slot.capacity
        slots[number] = TimeSlot(slot.capacity, slot.booked_count + more)
    return Movie(movie.key, movie.version + 1, slots)


def _body(choices: Choices) -> bytes:
    """A mostly valid body, so that later rules are reached as well."""
    fields = {
        "requestId": f'"{choices.one_of(IDS)}"',
        "movieId": f'"{choices.one_of(MOVIES)}"',
        "timeSlotId": str(choices.number(3)),
        "numberOfPeople": str(1 + choices.number(7)),
    }
    odd = choices.number(15)
    if odd & 1:
        fields["expiresAt"] = choices.one_of(TIMES)
    if odd & 6 == 6:
        fields[choices.one_of(list(fields))] = choices.one_of(WRONG)
    if odd & 14 == 14:
        fields.pop(choices.one_of(list(fields)))
    return ("{" + ",".join(f'"{name}":{value}' for name, value in fields.items()) + "}").encode()


def _kind(decision: Decision) -> str:
    match decision:
        case OutcomeEvent():
            return decision.reason or decision.outcome
        case Reused():
            return "request_id_reused"
        case Undecidable():
            return model.UNDELIVERABLE


def deliveries(data: bytes) -> None:
    """A message is read from the wire as a delivery, whatever its properties hold."""
    choices = Choices(data)
    flags = choices.number(0xFFFF)
    table = choices.piece(0xFFFF)
    size = choices.number(0xFFFF)
    values = (
        struct.pack(">I", len(table)) + table if choices.number(1) else table
    ) + choices.rest()
    header = struct.pack(">HHQH", 60, 0, size, flags) + values
    deliver = struct.pack(">HHB", 60, 60, 4) + b"ctag" + struct.pack(">QB", 7, 1)
    deliver += b"".join(bytes((len(name),)) + name for name in (table[:255], values[:255]))
    stream = b"".join(
        struct.pack(">BHI", kind, 1, len(payload)) + payload + b"\xce"
        for kind, payload in ((1, deliver), (2, header), (3, bytes(size)))
    )
    messages, _ = _routed([stream[: size % (len(stream) + 1)], stream[size % (len(stream) + 1) :]])
    (message,) = messages
    arrival = read_delivered_message(*message)
    assert (arrival.tag, len(arrival.body)) == (7, size)
    delivery = delivery_of(arrival)
    assert isinstance(delivery.may_be_poison, bool)
    assert isinstance(delivery.is_exhausted, bool)
    request = ReservationRequest(
        request_id="r", movie_id="heat", time_slot_id=1, number_of_people=1
    )
    for answer in (UnreadableRequest("not JSON"), answer_to(request)):
        require_publishable(delivery, answer)


def streams(data: bytes) -> None:
    """Any bytes, split anywhere, are passed on without an error and without loss."""
    if b"AMQP" not in data:
        assert _routed([data]) == _routed(data[at : at + 5] for at in range(0, len(data), 5))


def _routed(chunks: Iterable[bytes]) -> tuple[list[tuple[bytes, bytes, bytes]], bytes]:
    """The messages routed to the channel, and the bytes passed on, without heartbeats."""
    messages: list[tuple[bytes, bytes, bytes]] = []
    passed: list[bytes] = []
    demultiplexer = Demultiplexer(passed.append)
    demultiplexer.route(1, lambda *message: messages.append(message))
    for chunk in chunks:
        demultiplexer(chunk)
    return messages, b"".join(passed).replace(HEARTBEAT, b"")


def envelopes(data: bytes) -> None:
    """A request is read alike alone, and in a CloudEvent as data or in base64."""
    plain = read_request(data)
    packed = b'{"specversion":"1.0","data_base64":"' + base64.b64encode(data) + b'"}'
    if len(packed) <= model.BODY_BYTES_MAX:
        assert _same(read_request(packed, model.STRUCTURED), plain)
    inside = b'{"specversion":"1.0","data":' + data + b"}"
    if not isinstance(plain, UnreadableRequest) and len(inside) <= model.BODY_BYTES_MAX:
        # One more level of nesting may be too deep.
        within = read_request(inside, model.STRUCTURED)
        assert within == plain or model.read(inside, model.STRUCTURED) is None


def _same(one: object, other: object) -> bool:
    return one == other or (isinstance(one, UnreadableRequest) and type(one) is type(other))


TARGETS: Final[Mapping[str, Callable[[bytes], None]]] = {
    "requests": requests,
    "envelopes": envelopes,
    "decisions": decisions,
    "deliveries": deliveries,
    "streams": streams,
    "movies": movies,
    "connections": connections,
}
