"""The movies, the requests for them, and the edits that others make to the movies meanwhile.

Everything is drawn from a given random generator, and nothing here knows the worker: a request is
bytes, a movie is a document, an edit is a function from one document to the next.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from random import Random
from typing import Any, Final

from bson import ObjectId

from tests.simulation.world import CLOCK_START

Document = dict[str, Any]
Change = Callable[[Document | None], Document | None]

SLOT_IDS: Final = (0, 1, 2, 3, 7)
UNKNOWN_SLOT_ID: Final = 9
UNREADABLE: Final = (b"", b"nonsense", b"[1]", b'{"requestId": 5}', b'{"requestId": "no spaces"}')
INVALID_VALUES: Final[Sequence[tuple[str, object]]] = (
    ("numberOfPeople", 0),
    ("numberOfPeople", "2"),
    ("timeSlotId", True),
    ("timeSlotId", 1.5),
    ("movieId", "no spaces"),
    ("movieId", None),
    ("expiresAt", "tomorrow"),
)


@dataclass(frozen=True, slots=True)
class ScheduledRequest:
    """A request, and when a publisher sends it."""

    at_seconds: float
    body: bytes
    reply_to: str | None = None


@dataclass(frozen=True, slots=True)
class Edit:
    """A change of one movie by another program; None stands for a movie that does not exist."""

    at_seconds: float
    key: object
    what: str
    change: Change


def draw_movies(chance: Random, count: int) -> dict[object, Document]:
    """Movies with few seats, stored as various programs store them."""
    movies = [_movie(chance, number) for number in range(count)]
    return {movie["_id"]: movie for movie in movies}


def _movie(chance: Random, number: int) -> Document:
    key = ObjectId(bytes([number]) * 12) if chance.random() < 0.2 else f"movie-{number}"
    slots = [_slot(chance, slot_id) for slot_id in chance.sample(SLOT_IDS, chance.randint(1, 4))]
    movie: Document = {"_id": key, "title": f"No. {number}", "timeSlots": slots}
    if chance.random() < 0.7:
        movie["version"] = chance.choice((0, 1, 7, 7.0))
    return movie


def _slot(chance: Random, slot_id: int) -> Document:
    capacity = chance.choice((0, 3, 5, 8, 13, 30))
    slot: Document = {"id": slot_id, "capacity": capacity, "hall": "blue"}
    if chance.random() < 0.6:
        slot["bookedCount"] = chance.randint(0, capacity // 2)
    return slot


def draw_requests(
    chance: Random, movies: Sequence[Document], count: int, horizon_seconds: float
) -> list[ScheduledRequest]:
    """Requests, some of them repeated, and some ids reused with other content."""
    requests: list[ScheduledRequest] = []
    for number in range(count):
        request = _request(chance, f"r{number}", movies, horizon_seconds)
        at_seconds = horizon_seconds * chance.random()
        for body in _bodies(chance, request, movies, horizon_seconds):
            reply_to = "replies" if chance.random() < 0.05 else None
            requests.append(ScheduledRequest(at_seconds, body, reply_to))
            at_seconds += horizon_seconds * chance.random() * chance.choice((0.01, 1))
    return requests


def _request(
    chance: Random, request_id: str, movies: Sequence[Document], horizon_seconds: float
) -> Document:
    # The first movie is the hot one.
    movie = movies[0] if chance.random() < 0.5 else chance.choice(movies)
    slots = [slot["id"] for slot in movie["timeSlots"]]
    request = {
        "requestId": request_id,
        "movieId": str(movie["_id"]) if chance.random() < 0.97 else "no-such-movie",
        "timeSlotId": chance.choice(slots) if chance.random() < 0.95 else UNKNOWN_SLOT_ID,
        "numberOfPeople": chance.choice((1, 1, 1, 2, 2, 4)),
    }
    if chance.random() < 0.1:
        request["expiresAt"] = _moment(horizon_seconds * chance.uniform(-0.5, 2))
    if chance.random() < 0.07:
        name, value = chance.choice(INVALID_VALUES)
        request[name] = value
    return request


def _moment(at_seconds: float) -> str:
    return (CLOCK_START + timedelta(seconds=at_seconds)).isoformat(timespec="milliseconds")


def _bodies(
    chance: Random, request: Document, movies: Sequence[Document], horizon_seconds: float
) -> Iterator[bytes]:
    """The request, perhaps repeated, sometimes with other content under the same id."""
    if chance.random() < 0.03:
        yield chance.choice(UNREADABLE)
    yield json.dumps(request).encode()
    while chance.random() < 0.3:
        again = dict(request)
        if chance.random() < 0.3:
            again = _request(chance, request["requestId"], movies, horizon_seconds)
        elif chance.random() < 0.3:
            again["note"] = "please"
        elif chance.random() < 0.3:
            again["expiresAt"] = _moment(horizon_seconds * chance.uniform(-0.5, 2))
        yield json.dumps(again).encode()


def draw_edits(
    chance: Random, movies: Sequence[Document], count: int, busy_seconds: float
) -> list[Edit]:
    """Changes of these movies; most of them do not raise the version."""
    edits = []
    for _ in range(count):
        movie = chance.choice(movies)
        what = chance.choice(tuple(_CHANGES))
        change = _on_existing(_CHANGES[what](chance))
        if chance.random() < 0.3:
            what, change = f"{what}, with a new version", _raising_the_version(change)
        at_seconds = busy_seconds * chance.random()
        edits.append(Edit(at_seconds, movie["_id"], what, change))
        if what in _UNDONE_BY_THEMSELVES:
            at_seconds += busy_seconds * 0.3 * chance.random()
            edits.append(Edit(at_seconds, movie["_id"], f"{what}, undone", change))
    return edits


def insertion(chance: Random, movie: Document, horizon_seconds: float) -> Edit:
    """A movie that is inserted while requests for it are in flight."""
    at_seconds = horizon_seconds * chance.random()
    return Edit(at_seconds, movie["_id"], "movie inserted", lambda before: before or movie)


def _on_existing(change: Callable[[Document], Document]) -> Change:
    return lambda before: None if before is None else change(before)


def _raising_the_version(change: Change) -> Change:
    def changed(before: Document | None) -> Document | None:
        after = change(before)
        if before is None or after is None or after is before:
            return after
        if isinstance(after.get("version", 0), str):
            return after
        return {**after, "version": after.get("version", 0) + 1}

    return changed


def _capacity(chance: Random) -> Callable[[Document], Document]:
    """Another capacity for one slot, never below what is booked there."""
    picked, capacity = chance.random(), chance.randint(0, 10)

    def change(movie: Document) -> Document:
        slot = dict(_picked(movie["timeSlots"], picked))
        slot["capacity"] = max(capacity, slot.get("bookedCount", 0))
        return _with_slot(movie, slot)

    return change


def _order(chance: Random) -> Callable[[Document], Document]:
    """The time slots in another order: their position means nothing."""
    seed = chance.random()

    def change(movie: Document) -> Document:
        slots = list(movie["timeSlots"])
        Random(seed).shuffle(slots)
        return {**movie, "timeSlots": slots}

    return change


def _slot_added(chance: Random) -> Callable[[Document], Document]:
    slot = _slot(chance, chance.choice((*SLOT_IDS, UNKNOWN_SLOT_ID)))

    def change(movie: Document) -> Document:
        if any(there["id"] == slot["id"] for there in movie["timeSlots"]):
            return movie
        return {**movie, "timeSlots": [slot, *movie["timeSlots"]]}

    return change


def _slot_removed(chance: Random) -> Callable[[Document], Document]:
    picked = chance.random()

    def change(movie: Document) -> Document:
        gone = _picked(movie["timeSlots"], picked)
        slots = [slot for slot in movie["timeSlots"] if slot is not gone]
        return {**movie, "timeSlots": slots} if slots else movie

    return change


def _title(_chance: Random) -> Callable[[Document], Document]:
    return lambda movie: {**movie, "title": f"{movie['title']}!"}


def _unusable(chance: Random) -> Callable[[Document], Document]:
    """Text for a capacity, or two slots with one id; the next such edit repairs it."""
    is_text = chance.random() < 0.5

    def change(movie: Document) -> Document:
        slot, *others = movie["timeSlots"]
        if isinstance(slot["capacity"], str):
            return {**movie, "timeSlots": [{**slot, "capacity": int(slot["capacity"])}, *others]}
        if len({slot["id"] for slot in movie["timeSlots"]}) < len(movie["timeSlots"]):
            return {**movie, "timeSlots": others}
        if is_text:
            slot = {**slot, "capacity": str(slot["capacity"])}
            return {**movie, "timeSlots": [slot, *others]}
        return {**movie, "timeSlots": [{**slot, "bookedCount": 0}, slot, *others]}

    return change


def _freeze(_chance: Random) -> Callable[[Document], Document]:
    """Another validator refuses any booking of this movie; the next such edit ends that."""

    def change(movie: Document) -> Document:
        if "frozen" in movie:
            return {name: value for name, value in movie.items() if name != "frozen"}
        return {**movie, "frozen": True}

    return change


def _picked(slots: Sequence[Document], share: float) -> Document:
    return slots[int(share * len(slots))]


def _with_slot(movie: Document, slot: Document) -> Document:
    slots = [slot if there["id"] == slot["id"] else there for there in movie["timeSlots"]]
    return {**movie, "timeSlots": slots}


_UNDONE_BY_THEMSELVES: Final = ("unusable", "frozen")

_CHANGES: Final[dict[str, Callable[[Random], Callable[[Document], Document]]]] = {
    "capacity": _capacity,
    "another capacity": _capacity,
    "order of slots": _order,
    "another order of slots": _order,
    "slot added": _slot_added,
    "slot removed": _slot_removed,
    "title": _title,
    "unusable": _unusable,
    "frozen": _freeze,
}
