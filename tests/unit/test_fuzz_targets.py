"""The fuzz targets in every test run: with all seeds, and with what hypothesis makes of them.

``make fuzz`` runs them for as long as one likes, guided by the coverage of the code.
"""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Final

import pydantic_core
import pytest
from bson.errors import BSONError
from hypothesis import given
from hypothesis import strategies as st

from contracts import messages
from tests.fuzz.seeds import DICTIONARY, SEEDS
from tests.fuzz.targets import TARGETS
from worker import redaction
from worker.broker.wire import decoding
from worker.commands import movie_file
from worker.rules import decision
from worker.rules.snapshot import TimeSlot

PIECES: Final = tuple(word.encode() for word in DICTIONARY)


@st.composite
def changed(draw: st.DrawFn, target: str) -> bytes:
    """A seed with bytes removed, doubled, inserted or overwritten at up to three places."""
    data = draw(st.sampled_from(SEEDS[target]))
    for _ in range(draw(st.integers(1, 3))):
        start, end = sorted(draw(st.tuples(*[st.integers(0, len(data))] * 2)))
        put = draw(st.sampled_from(PIECES) | st.binary(max_size=4) | st.just(data[start:end] * 2))
        data = data[:start] + put + data[end:]
    return data


def try_all_seeds(target: str) -> None:
    for seed in SEEDS[target]:
        TARGETS[target](seed)


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_holds_for_every_seed(target: str) -> None:
    try_all_seeds(target)


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_holds_for_any_bytes(target: str) -> None:
    @given(st.binary(max_size=300))
    def holds(data: bytes) -> None:
        TARGETS[target](data)

    holds()


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_holds_for_changed_seeds(target: str) -> None:
    @given(changed(target))
    def holds(data: bytes) -> None:
        TARGETS[target](data)

    holds()


def one_seat_too_many(slot: TimeSlot) -> int:
    return max(0, slot.capacity - slot.booked_count + 1)


def lenient(text: bytes, **_strict: bool) -> object:
    return pydantic_core.from_json(text, allow_inf_nan=True)


MISTAKES: Final[dict[str, tuple[str, object, str, object]]] = {
    "an offset of sixty minutes": (
        *("requests", messages, "_RFC3339"),
        re.compile(messages._RFC3339.pattern.replace("[0-5]", r"\d"), re.ASCII),
    ),
    "infinity taken for a number": (
        "requests",
        messages,
        "pydantic_core",
        SimpleNamespace(from_json=lenient, to_json=pydantic_core.to_json),
    ),
    "a seat too many": (
        "decisions",
        TimeSlot,
        "seats_available",
        property(one_seat_too_many),
    ),
    "the id alone identifies a repeated request": (
        "decisions",
        decision,
        "_content_of",
        lambda message: message.request_id,
    ),
    "text that must be UTF-8": (
        "deliveries",
        decoding,
        "_text",
        lambda data, at: (at + 1 + data[at], data[at + 1 : at + 1 + data[at]].decode()),
    ),
    "a movie that cannot be stored": (
        "movies",
        movie_file,
        "require_storable",
        lambda _document: None,
    ),
    "a secret among the options": (
        "connections",
        redaction,
        "_SECRET_OPTION",
        re.compile("(no)(thing)"),
    ),
}
"""A target, and the code to replace: object, attribute and mistaken value."""


@pytest.mark.parametrize(("target", "place", "name", "mistake"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_found_by_the_seeds_alone(
    monkeypatch: pytest.MonkeyPatch, target: str, place: object, name: str, mistake: object
) -> None:
    monkeypatch.setattr(place, name, mistake)
    with pytest.raises((AssertionError, UnicodeDecodeError, BSONError)):
        try_all_seeds(target)
