"""Which times ``expiresAt`` takes is ours to say, and the same on every version of Python."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from contracts import InvalidRequest, ReservationRequest, messages, read_request


class LenientDatetime(datetime):
    """A standard library that reads every time there is, as later versions read more and more."""

    @classmethod
    def fromisoformat(cls, _text: str) -> LenientDatetime:
        return cls(2026, 12, 25, tzinfo=UTC)


def read(expires_at: str) -> object:
    request = {"requestId": "r", "movieId": "heat", "timeSlotId": 1, "numberOfPeople": 1}
    return read_request(json.dumps({**request, "expiresAt": expires_at}).encode())


@pytest.mark.parametrize(
    "text",
    [
        "2026-12-24T24:00:00Z",
        "2026-12-24T25:00:00Z",
        "2026-12-24T19:60:00Z",
        "2026-12-24T19:30:60Z",
        "2026-12-24T19:30:00+24:00",
        "2026-12-24T19:30:00+05:60",
        "2026-12-24T19:30:00-0500",
        "2026-12-24T19:30:00+05:30:15",
        "2026-W52-4T19:30:00Z",
        "20261224T193000Z",
    ],
)
def test_what_a_later_python_may_read_is_still_invalid(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(messages, "datetime", LenientDatetime)
    assert isinstance(read(text), InvalidRequest)


@pytest.mark.parametrize(
    "text",
    [
        "2026-12-24T00:00:00Z",
        "2026-12-24T23:59:59.999999999Z",
        "2026-12-24T19:30:00+23:59",
        "2026-12-24T19:30:00-00:00",
        "2024-02-29T19:30:00z",
    ],
)
def test_the_edges_of_every_number_are_valid(text: str) -> None:
    assert isinstance(read(text), ReservationRequest)
