"""How the auditor of the end state reads a body: as unreadable, as invalid, or as a request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import pytest

from tests.unit.end_state import MOMENT, Document, encoded, event, invalid, rejected, request
from worker.devtools.auditor import CONTENT, Evidence, Kind, audit

FULL_WIDTH_TIME: Final = "\uff12026-12-24T19:30:00Z"


def kinds_of(
    body: bytes, entry: Document | None = None, dead_letters: Sequence[tuple[str, bytes]] = ()
) -> list[Kind]:
    """What is found where this is all that was sent, and there are no movies."""
    ledger = [] if entry is None else [{**entry, "_id": "x", "decidedAt": MOMENT}]
    events = [] if entry is None else [event("x", entry)]
    return [
        finding.kind for finding in audit(Evidence([body], events, dead_letters, ledger, [], []))
    ]


@pytest.mark.parametrize(
    "body",
    [
        b"not JSON",
        b"\xff",
        b"[]",
        encoded({"movieId": "heat"}),
        encoded(request("a b", 1)),
        encoded(request("", 1)),
        encoded(request("x" * 65, 1)),
        encoded({**request("x", 1), "requestId": 5}),
        encoded(request("x", 1, note="x" * 64 * 1024)),
    ],
    ids=lambda body: body[:20].decode("latin-1"),
)
def test_a_body_that_names_no_request_is_unreadable(body: bytes) -> None:
    assert kinds_of(body) == [Kind.DEAD_LETTER_MISSING]
    assert kinds_of(body, dead_letters=[("unreadable_request", body)]) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("movieId", value) for value in (None, 5, "", "a b", "é", "x" * 65)],
        *[("timeSlotId", value) for value in (None, "1", True, 1.0, -1, 2**53)],
        *[("numberOfPeople", value) for value in (None, "1", True, 1.0, 0, 1001)],
        *[
            ("expiresAt", value)
            for value in (5, "", "2026-12-24", "2026-12-24T19:30:00", FULL_WIDTH_TIME)
        ],
    ],
)
def test_a_field_that_breaks_its_rule_makes_a_request_invalid(name: str, value: object) -> None:
    sent = {**request("x", 1), name: value}
    entry = invalid(name, **{key: sent[key] for key in CONTENT if key != name})
    body = encoded(sent)
    assert kinds_of(body, entry, [("invalid_request", body)]) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("movieId", value) for value in ("x" * 64, "_-Z9")],
        *[("timeSlotId", value) for value in (0, 2**53 - 1)],
        *[("numberOfPeople", value) for value in (1, 1000)],
        *[("expiresAt", value) for value in (None, "2999-12-24t19:30:00.5z")],
    ],
)
def test_a_field_at_the_edge_of_its_rule_is_valid(name: str, value: object) -> None:
    sent = {**request("x", 1), name: value}
    content = {key: sent[key] for key in CONTENT}
    assert kinds_of(encoded(sent), {**rejected("unknown_movie", 1, 1), **content}) == []
