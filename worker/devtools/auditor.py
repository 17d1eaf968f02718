"""The auditor of the end state: judges from outside whether everything came out as promised.

From what was sent it works out by itself what must have been received and stored, and it names
every difference. The demo, the acceptance tests and the fault matrix share it.

Imports nothing of the worker or the contracts, because an auditor that shares code with what it
audits shares its mistakes; a test holds this. Refuses to know how the evidence was gathered.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, TypeVar

Document = Mapping[str, Any]
Key = TypeVar("Key")
Item = TypeVar("Item")

CONTENT: Final = ("movieId", "timeSlotId", "numberOfPeople")
"""What makes two requests with one id the same request, besides being valid or not."""
BODY_BYTES_MAX: Final = 64 * 1024
SAW_A_MOVIE: Final = ("unknown_time_slot", "expired", "sold_out")
"""The reasons of rejections that name the version of their movie."""
TIME: Final = r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)"


class Kind(StrEnum):
    """The kinds of violations, each with the words that stand for it in a table."""

    OVERBOOKED = "overbooked slots"
    SEATS_DIFFER = "slots whose seats differ from the ledger"
    VERSIONS_DIFFER = "movies whose versions differ from the ledger"
    NOT_RECORDED = "requests without an outcome"
    NOT_SENT = "outcomes without a request"
    OTHER_CONTENT = "outcomes with other content than was sent"
    WRONG_OUTCOME = "outcomes against the rules"
    WRONG_SEATS = "outcomes with seats that were never left"
    NOT_ANNOUNCED = "outcomes that were not announced"
    EVENT_WITHOUT_OUTCOME = "events without an outcome"
    EVENTS_DIFFER = "requests with different events"
    EVENT_UNLIKE_LEDGER = "events that differ from the ledger"
    DEAD_LETTER_MISSING = "missing dead letters"
    DEAD_LETTER_WITHOUT_CAUSE = "dead letters without a cause"
    LEFT_IN_QUEUE = "requests left in the queue"


@dataclass(frozen=True, slots=True)
class Finding:
    """One violation."""

    kind: Kind
    what: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything that was seen from outside the workers."""

    sent: Sequence[bytes | Document]
    """The body of each message that must have been answered; a document is one as ``json.dumps``
    writes it."""
    events: Sequence[bytes]
    dead_letters: Sequence[tuple[str, bytes]]
    """The error that each dead letter names, and its body."""
    ledger: Sequence[Document]
    before: Sequence[Document]
    after: Sequence[Document]
    """The movies as they were before anything was sent, and as they are now."""
    left_in_queue: int = 0


def audit(evidence: Evidence) -> list[Finding]:
    """Return every violation; none if all is well."""
    case = _Case(evidence)
    checks = (_slots, _versions, _entries, _outcomes, _seats_left, _events, _answers, _dead_letters)
    return [finding for check in checks for finding in check(case)]


@dataclass(frozen=True, slots=True)
class _Request:
    """A body that names a request, read as the contract says."""

    body: bytes
    fields: Document
    """Those that keep their rule."""
    broken: frozenset[str]
    """The names of those that break theirs."""

    def is_recorded_as(self, entry: Document) -> bool:
        """Whether the entry answers this request, and not another one with the same id."""
        errors = {error["field"] for error in entry.get("errors", ())}
        return bool(errors) == bool(self.broken) and all(
            (name in errors) == (name in self.broken) and entry.get(name) == self.fields.get(name)
            for name in CONTENT
        )

    def allowed(self, entry: Document, movies: Mapping[str, Document]) -> set[str | None]:
        """The reasons its outcome may have, by the first rule that holds; None is confirmed."""
        if self.broken:
            return {"invalid_request"}
        movie = movies.get(self.fields["movieId"])
        if movie is None:
            return {"unknown_movie"}
        if self.fields["timeSlotId"] not in {slot["id"] for slot in movie["timeSlots"]}:
            return {"unknown_time_slot"}
        expires_at = self.fields.get("expiresAt")
        if expires_at and entry["decidedAt"] > datetime.fromisoformat(expires_at.upper()):
            return {"expired"}
        return {None, "sold_out"}


class _Case:
    """The evidence, sorted by request id and by movie id."""

    def __init__(self, evidence: Evidence) -> None:
        bodies = [s if isinstance(s, bytes) else json.dumps(s).encode() for s in evidence.sent]
        read = [(body, _read(body)) for body in bodies]
        self.evidence = evidence
        self.unreadable = [body for body, request in read if request is None]
        self.requests = _grouped((r.fields["requestId"], r) for _, r in read if r is not None)
        self.ledger = {entry["_id"]: entry for entry in evidence.ledger}
        self.confirmed = sorted(
            (entry for entry in evidence.ledger if entry["outcome"] == "confirmed"),
            key=lambda entry: (entry.get("movieVersion", -1), -entry.get("seatsAvailable", 0)),
        )
        self.rejected = [e for e in evidence.ledger if e.get("reason") in SAW_A_MOVIE]
        # For each entry, the requests with its id that it answers.
        self.answered = {
            name: [r for r in self.requests.get(name, ()) if r.is_recorded_as(entry)]
            for name, entry in self.ledger.items()
        }
        self.events = _grouped((json.loads(body)["requestId"], body) for body in evidence.events)
        self.before = {str(movie["_id"]): movie for movie in evidence.before}
        self.after = {str(movie["_id"]): movie for movie in evidence.after}


def _slots(case: _Case) -> Iterator[Finding]:
    """No slot is overbooked, and its seats are those of the ledger."""
    people = Counter[tuple[str, int]]()
    for entry in case.confirmed:
        people[entry["movieId"], entry["timeSlotId"]] += entry["numberOfPeople"]
    before, after = _seats(case.before), _seats(case.after)
    for place in sorted({*before, *after, *people}):
        (_, earlier), (capacity, booked) = before.get(place, (0, 0)), after.get(place, (0, 0))
        if not 0 <= booked <= capacity:
            yield Finding(Kind.OVERBOOKED, f"{place}: {booked} booked of {capacity} seats")
        if booked != earlier + people[place]:
            figures = f"{booked} booked, {earlier} of them before, {people[place]} confirmed"
            yield Finding(Kind.SEATS_DIFFER, f"{place}: {figures}")


def _versions(case: _Case) -> Iterator[Finding]:
    """A movie's version grew by one for each commit, and nothing was decided at any other."""
    for movie_id, movie in case.before.items():
        first, last = (m.get("version", 0) for m in (movie, case.after.get(movie_id, {})))
        made = {e.get("movieVersion") for e in case.confirmed if e["movieId"] == movie_id}
        seen = {e.get("movieVersion") for e in case.rejected if e["movieId"] == movie_id}
        if made != {*range(first + 1, last + 1)} or not seen <= {*range(first, last + 1)}:
            what = f"from {first} to {last}, confirmed at {made}, rejected at {seen}"
            yield Finding(Kind.VERSIONS_DIFFER, f"{movie_id}: {what}")


def _entries(case: _Case) -> Iterator[Finding]:
    """Each request has its entry, and each entry is about what was sent."""
    for name in case.requests.keys() - case.ledger.keys():
        yield Finding(Kind.NOT_RECORDED, name)
    for name, entry in case.ledger.items():
        if name not in case.requests:
            yield Finding(Kind.NOT_SENT, name)
        elif not case.answered[name]:
            yield Finding(Kind.OTHER_CONTENT, f"{name}: recorded as {entry}")


def _outcomes(case: _Case) -> Iterator[Finding]:
    """Each outcome has the reason of the first rule that holds, and no other."""
    for name, entry in case.ledger.items():
        reason = entry.get("reason")
        allowed = [request.allowed(entry, case.before) for request in case.answered[name]]
        if (entry["outcome"] == "confirmed") != (reason is None):
            yield Finding(Kind.WRONG_OUTCOME, f"{name}: {entry}")
        elif allowed and not any(reason in reasons for reasons in allowed):
            yield Finding(Kind.WRONG_OUTCOME, f"{name}: {reason} instead of one of {allowed}")
        elif reason == "sold_out" and entry["numberOfPeople"] <= entry.get("seatsAvailable", 0):
            yield Finding(Kind.WRONG_OUTCOME, f"{name}: sold out, with room in {entry}")


def _seats_left(case: _Case) -> Iterator[Finding]:
    """Each decision saw what was left: seats go down version by version, one by one."""
    confirmed = _grouped(((e["movieId"], e["timeSlotId"]), e) for e in case.confirmed)
    rejected = _grouped(((e["movieId"], e["timeSlotId"]), e) for e in case.rejected)
    for place, (capacity, booked) in _seats(case.before).items():
        left = [(-math.inf, capacity - booked)]
        for entry in confirmed.get(place, ()):
            left.append((entry.get("movieVersion", -1), left[-1][1] - entry["numberOfPeople"]))
            if entry.get("seatsAvailable") != left[-1][1]:
                yield Finding(Kind.WRONG_SEATS, f"{entry['_id']}: {left[-1][1]} left in {entry}")
        for entry in rejected.get(place, ()):
            version = entry.get("movieVersion", -1)
            # It may stand before, between or behind the confirmations of its version.
            *_, before = (seats for at, seats in left if at < version)
            possible = {before, *(seats for at, seats in left if at == version)}
            if entry.get("seatsAvailable") not in possible:
                yield Finding(Kind.WRONG_SEATS, f"{entry['_id']}: never left in {entry}")


def _events(case: _Case) -> Iterator[Finding]:
    """Every event carries its entry, always in the same words."""
    for name, bodies in case.events.items():
        if name not in case.ledger:
            yield Finding(Kind.EVENT_WITHOUT_OUTCOME, name)
        elif len(set(bodies)) > 1:
            yield Finding(Kind.EVENTS_DIFFER, f"{name}: {set(bodies)}")
        elif (event := json.loads(bodies[0])) != (entry := _as_event(case.ledger[name])):
            yield Finding(Kind.EVENT_UNLIKE_LEDGER, f"{event} instead of {entry}")


def _as_event(entry: Document) -> Document:
    renamed = {"requestId" if name == "_id" else name: value for name, value in entry.items()}
    moment = entry["decidedAt"].isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {**renamed, "decidedAt": moment}


def _answers(case: _Case) -> Iterator[Finding]:
    """An outcome was announced at least once for each message that asked for it."""
    for name in case.requests.keys() & case.ledger.keys():
        messages, announced = max(len(case.answered[name]), 1), len(case.events.get(name, ()))
        if announced < messages:
            yield Finding(Kind.NOT_ANNOUNCED, f"{name}: {announced} events, {messages} messages")
    if case.evidence.left_in_queue:
        yield Finding(Kind.LEFT_IN_QUEUE, f"{case.evidence.left_in_queue} messages")


def _dead_letters(case: _Case) -> Iterator[Finding]:
    """Each message that cannot be decided has its dead letter, and no other has one.

    Which of two contents with one id came first is for the workers to say, once, in the ledger;
    the other content is the one that was reused.
    """
    due = Counter(("unreadable_request", body) for body in case.unreadable)
    for name, answered in case.answered.items():
        for request in case.requests.get(name, ()) if answered else ():
            if request not in answered:
                due["request_id_reused", request.body] += 1
            elif request.broken:
                due["invalid_request", request.body] += 1
    found = Counter(case.evidence.dead_letters)
    for error, body in due - found:
        yield Finding(Kind.DEAD_LETTER_MISSING, f"{error}: {body[:120]!r}")
    for error, body in found.keys() - due.keys():
        yield Finding(Kind.DEAD_LETTER_WITHOUT_CAUSE, f"{error}: {body[:120]!r}")


def _read(body: bytes) -> _Request | None:
    """Read a body; None if it names no request."""
    try:
        value = json.loads(body.decode())
    except ValueError:
        return None
    if not isinstance(value, dict) or len(body) > BODY_BYTES_MAX:
        return None
    people, time_slot = value.get("numberOfPeople"), value.get("timeSlotId")
    rules = {
        "requestId": _matches(r"[A-Za-z0-9._:-]{1,64}", value.get("requestId")),
        "movieId": _matches(r"[A-Za-z0-9_-]{1,64}", value.get("movieId")),
        "timeSlotId": type(time_slot) is int and 0 <= time_slot < 2**53,
        "numberOfPeople": type(people) is int and 1 <= people <= 1000,
        "expiresAt": value.get("expiresAt") is None or _matches(TIME, value["expiresAt"]),
    }
    if not rules["requestId"]:
        return None
    fields = {name: value[name] for name, kept in rules.items() if kept and name in value}
    return _Request(body, fields, frozenset(name for name, kept in rules.items() if not kept))


def _matches(pattern: str, value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(pattern, value, re.ASCII) is not None


def _seats(movies: Mapping[str, Document]) -> dict[tuple[str, int], tuple[int, int]]:
    """The capacity of every time slot, and the people booked."""
    return {
        (movie_id, slot["id"]): (slot["capacity"], slot.get("bookedCount", 0))
        for movie_id, movie in movies.items()
        for slot in movie["timeSlots"]
    }


def _grouped(pairs: Iterable[tuple[Key, Item]]) -> dict[Key, list[Item]]:
    groups = defaultdict[Key, list[Item]](list)
    for key, item in pairs:
        groups[key].append(item)
    return dict(groups)
