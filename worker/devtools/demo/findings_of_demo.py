"""The audit of the demo: what must be true at the end, worked out from what was sent.

Shares no code with the worker that it audits, on purpose: it reads JSON and counts. Everything
it is given came from outside the workers: the messages sent, the events an independent
subscriber received, the dead letters, and the two collections as they are stored.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Document = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that was seen from outside."""

    sent: Sequence[bytes]
    events: Sequence[bytes]
    dead_letters: Sequence[tuple[bytes, str]]
    """Bodies, and the error that each dead letter names."""
    movies: Sequence[Document]
    ledger: Sequence[Document]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the audit; ``violations`` must be empty, or the demo has failed."""

    title: str
    figure: str
    violations: Sequence[str]


def audit(evidence: Evidence) -> list[Finding]:
    """Hold the evidence against the promises, one finding for each."""
    contents = _contents_by_request(evidence.sent)
    events = _events_by_request(evidence.events)
    ledger = {entry["_id"]: entry for entry in evidence.ledger}
    return [
        _overbooked(evidence.movies),
        _lost(contents, ledger, events),
        _contradictions(ledger, events),
        _bookings(evidence.movies, evidence.ledger),
        _dead_letters(evidence.sent, evidence.dead_letters, ledger),
    ]


def _contents_by_request(sent: Iterable[bytes]) -> dict[str, set[bytes]]:
    contents: dict[str, set[bytes]] = defaultdict(set)
    for body in sent:
        if (request_id := _request_id(body)) is not None:
            contents[request_id].add(body)
    return contents


def _events_by_request(bodies: Iterable[bytes]) -> dict[str, set[bytes]]:
    events: dict[str, set[bytes]] = defaultdict(set)
    for body in bodies:
        events[json.loads(body)["requestId"]].add(body)
    return events


def _overbooked(movies: Sequence[Document]) -> Finding:
    slots = [(movie["_id"], slot) for movie in movies for slot in movie["timeSlots"]]
    full = sum(slot["bookedCount"] == slot["capacity"] for _, slot in slots)
    return Finding(
        "overbooked slots",
        f"{len(slots)} slots, {full} of them full to the last seat",
        [
            f"{movie_id}/{slot['id']}: {slot['bookedCount']} people on {slot['capacity']} seats"
            for movie_id, slot in slots
            if not 0 <= slot["bookedCount"] <= slot["capacity"]
        ],
    )


def _lost(
    contents: Mapping[str, set[bytes]],
    ledger: Mapping[str, Document],
    events: Mapping[str, set[bytes]],
) -> Finding:
    lost = [f"{r}: not in the ledger" for r in contents if r not in ledger]
    lost += [f"{r}: no event" for r in contents if r not in events]
    lost += [f"{r}: never sent" for r in ledger if r not in contents]
    return Finding(
        "lost requests", f"{len(contents):,} request ids sent, {len(ledger):,} recorded", lost
    )


def _contradictions(ledger: Mapping[str, Document], events: Mapping[str, set[bytes]]) -> Finding:
    wrong = [
        f"{r}: {len(bodies)} different events" for r, bodies in events.items() if len(bodies) > 1
    ]
    for request_id, entry in ledger.items():
        for body in events.get(request_id, ()):
            event = json.loads(body)
            compared = ("outcome", "reason", "movieId", "timeSlotId", "numberOfPeople")
            if any(event.get(name) != entry.get(name) for name in compared):
                wrong.append(f"{request_id}: the event says {event}, the ledger {dict(entry)}")
    outcomes = Counter(entry.get("reason", entry["outcome"]) for entry in ledger.values())
    figure = ", ".join(f"{count:,} {name}" for name, count in outcomes.most_common())
    return Finding("contradictory outcomes", figure, wrong)


def _bookings(movies: Sequence[Document], ledger: Sequence[Document]) -> Finding:
    people: Counter[tuple[str, int]] = Counter()
    for entry in ledger:
        if entry["outcome"] == "confirmed":
            people[str(entry["movieId"]), entry["timeSlotId"]] += entry["numberOfPeople"]
    booked = {
        (str(movie["_id"]), slot["id"]): slot["bookedCount"]
        for movie in movies
        for slot in movie["timeSlots"]
    }
    return Finding(
        "bookedCount unlike the confirmed people",
        f"{sum(booked.values()):,} seats booked, {people.total():,} people confirmed",
        [
            f"{movie_id}/{slot_id}: bookedCount {booked.get((movie_id, slot_id), 0)}, "
            f"confirmed {people[movie_id, slot_id]}"
            for movie_id, slot_id in sorted(booked.keys() | people.keys())
            if booked.get((movie_id, slot_id), 0) != people[movie_id, slot_id]
        ],
    )


def _dead_letters(
    sent: Sequence[bytes], dead_letters: Sequence[tuple[bytes, str]], ledger: Mapping[str, Document]
) -> Finding:
    """Each body that earned a dead letter has one, and no other body has."""
    expected = {(body, error) for body in sent if (error := _earned(body, ledger)) is not None}
    found = set(dead_letters)
    names = Counter(error for _, error in expected)
    figure = ", ".join(f"{count} {name}" for name, count in sorted(names.items()))
    return Finding(
        "dead letters missing or without cause",
        figure or "none",
        [f"missing: {error} for {body[:120]!r}" for body, error in expected - found]
        + [f"without cause: {error} for {body[:120]!r}" for body, error in found - expected],
    )


def _earned(body: bytes, ledger: Mapping[str, Document]) -> str | None:
    """The error that this body has to be dead-lettered with, if any.

    Which of two contents with one id came first is for the workers to say, once; the other one
    is the one that was reused.
    """
    request_id = _request_id(body)
    if request_id is None:
        return "unreadable_request"
    request, entry = json.loads(body), ledger.get(request_id, {})
    if entry.get("reason") == "invalid_request":
        same = request["numberOfPeople"] == 0
        return "invalid_request" if same else "request_id_reused"
    same = request["numberOfPeople"] == entry.get("numberOfPeople")
    return None if same else "request_id_reused"


def _request_id(body: bytes) -> str | None:
    try:
        value = json.loads(body)
    except ValueError:
        return None
    return value.get("requestId") if isinstance(value, dict) else None
