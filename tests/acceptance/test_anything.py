"""Whatever bytes are thrown at a worker, it goes on, and each message gets what the table says."""

from __future__ import annotations

import base64
import json
import secrets
from collections import Counter
from typing import Any, Final

import aio_pika
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.acceptance.cinema import Cinema, request_for, slots
from tests.acceptance.oracle import FIELDS, PAST_TIMES, STRUCTURED, VALID_TIMES, Oracle

PREFIX: Final = secrets.token_hex(4)
OPEN, CLOSED = f"open-{PREFIX}", f"closed-{PREFIX}"
SEATS: Final = 10**12

TEXT: Final = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
EDGES: Final = [0, 1, -1, 1000, 1001, 2**53 - 1, 2**53, 1.0, "", "1", "a b", "é", "x" * 65]
SCALARS: Final = (
    st.sampled_from(EDGES)
    | st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT
)
JSON: Final = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=4,
)
# A handful of ids, so that requests meet earlier ones with the same and with other content.
REQUEST_IDS: Final = st.integers(0, 400).map(lambda number: f"{PREFIX}:{number}") | JSON
VALUES: Final[dict[str, st.SearchStrategy[Any]]] = {
    "movieId": st.sampled_from([OPEN, CLOSED, "no-such-movie"]),
    "timeSlotId": st.sampled_from([1, 2, 3, 2**53 - 1]),
    "numberOfPeople": st.sampled_from([1, 2, 1000]),
    "expiresAt": st.sampled_from([None, *VALID_TIMES, *PAST_TIMES]),
}


@st.composite
def bodies(draw: st.DrawFn) -> dict[str, Any]:
    """Mostly right, with one or two fields that may be anything, missing, or unknown."""
    request = {"requestId": draw(REQUEST_IDS)}
    request |= {name: draw(values) for name, values in VALUES.items() if name in FIELDS}
    if draw(st.booleans()):
        request["expiresAt"] = draw(VALUES["expiresAt"])
    for name in draw(st.lists(st.sampled_from([*VALUES, "x", "request_id"]), max_size=2)):
        request[name] = draw(st.sampled_from(EDGES) | JSON)
    for name in draw(st.lists(st.sampled_from([*VALUES, "requestId"]), max_size=1)):
        if draw(st.booleans()):
            request.pop(name, None)
    return request


def nearly_right() -> list[bytes]:
    """Requests that are new, each with one field at the edge of its rule or past it."""
    return [
        json.dumps(
            {**request_for(OPEN), name: f"{PREFIX}:{edge}" if name == "requestId" else edge}
        ).encode()
        for name in ("requestId", *FIELDS)
        for edge in EDGES
    ]


def packed(request: dict[str, Any]) -> bytes:
    text = base64.b64encode(json.dumps(request).encode()).decode()
    return json.dumps({"specversion": "1.0", "data_base64": text}).encode()


def damaged(request: dict[str, Any], where: int, what: bytes) -> bytes:
    body = json.dumps(request, ensure_ascii=False).encode()
    return body[: where % len(body)] + what + body[where % len(body) :]


PLAIN: Final = bodies().map(lambda request: json.dumps(request).encode())
DELIVERIES: Final = st.one_of(
    st.tuples(PLAIN, st.sampled_from([None, "application/json", "text/plain"])),
    st.tuples(PLAIN, st.none()),
    st.tuples(JSON.map(lambda value: json.dumps(value).encode()), st.sampled_from([STRUCTURED])),
    st.tuples(bodies().map(lambda r: json.dumps({"data": r}).encode()), st.just(STRUCTURED)),
    st.tuples(bodies().map(packed), st.just(STRUCTURED)),
    st.tuples(st.binary(max_size=100), st.sampled_from([None, STRUCTURED])),
    st.tuples(
        st.builds(damaged, bodies(), st.integers(0, 200), st.binary(min_size=1, max_size=2)),
        st.none(),
    ),
)


@pytest.fixture(scope="module")
async def open_movie(shared_cinema: Cinema) -> Cinema:
    """A worker at work, one movie with seats without end, and one without any."""
    cinema = shared_cinema
    await cinema.show(*slots(SEATS, 0), movie_id=OPEN)
    await cinema.show(*slots(0, 0), movie_id=CLOSED)
    await cinema.start_worker()
    return cinema


@pytest.fixture(scope="module")
def oracle() -> Oracle:
    """Sees all examples, as the ledger does."""
    return Oracle(
        slots={(OPEN, 1): SEATS, (OPEN, 2): 0, (CLOSED, 1): 0, (CLOSED, 2): 0},
        movies=frozenset({OPEN, CLOSED}),
    )


# The worker remembers, so an example that failed would get other answers the second time.
@settings(
    max_examples=40,
    phases=[Phase.generate],
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(deliveries=st.lists(DELIVERIES, min_size=20, max_size=80))
async def test_each_message_is_answered_as_the_table_says(
    open_movie: Cinema, oracle: Oracle, deliveries: list[tuple[bytes, str | None]]
) -> None:
    await send_and_check(open_movie, oracle, deliveries)


async def test_a_field_at_the_edge_of_its_rule_is_answered_by_the_table(
    open_movie: Cinema, oracle: Oracle
) -> None:
    await send_and_check(open_movie, oracle, [(body, None) for body in nearly_right()])


async def send_and_check(
    cinema: Cinema, oracle: Oracle, deliveries: list[tuple[bytes, str | None]]
) -> None:
    client = cinema.client
    for body, content_type in deliveries:
        oracle.receive(body, content_type)
        message = aio_pika.Message(body, content_type=content_type)
        await client.channel.default_exchange.publish(message, "reservations.requests")
    # One worker answers in order, so all before this request have been answered when it is.
    last = request_for("no-such-movie")
    await client.publish(last)
    await client.outcome(last["requestId"])
    await client.dead_letters(oracle.dead_letters.total())
    dead_letters = Counter(
        (dead_letter.body, str(dead_letter.error)) for dead_letter in client.received_dead_letters
    )
    assert dead_letters == oracle.dead_letters
    events = {name: events for name, events in client.events.items() if name in oracle.first}
    assert {name: len(all_of_it) for name, all_of_it in events.items()} == oracle.events
    assert {name: told(events[name][0].content) for name in events} == oracle.reasons
    assert all(len({event.body for event in all_of_it}) == 1 for all_of_it in events.values())


def told(outcome: dict[str, Any]) -> str:
    return str(outcome.get("reason", outcome["outcome"]))


async def test_after_all_that_the_log_holds_nothing_above_a_warning(
    open_movie: Cinema,
) -> None:
    (worker,) = open_movie.workers
    assert {line["level"] for line in worker.messages} <= {"INFO", "WARNING"}
    assert "session ends" not in worker.log
