"""An auditor who shares no code with what is audited.

From what was sent, what was received and what is stored it works out by itself whether the
invariants of the design hold: I1 no slot overbooked, I2 seats are those of the ledger, I3 one
entry for each request and events that carry it, I4 nothing announced that is not recorded and
nothing lost, I5 each delivery answered, I6 the version grows by one for each change.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Document = Mapping[str, Any]


@dataclass
class Evidence:
    """All that can be seen from outside. Movies are as they were before and as they are now."""

    sent: Sequence[Document]
    events: Mapping[str, Sequence[bytes]]
    letters: Sequence[tuple[str, bytes]]
    ledger: Mapping[str, Document]
    before: Mapping[Any, Document]
    after: Mapping[Any, Document]
    left_in_queue: int = 0
    findings: list[str] = field(default_factory=list)


def audit(evidence: Evidence) -> list[str]:
    """Everything that is wrong, in words; nothing if all is well."""
    checks = (_slots, _seats, _entries, _events, _answers, _versions, _reasons)
    return [finding for check in checks for finding in check(evidence)]


def _slots(evidence: Evidence) -> Iterator[str]:
    for movie_id, movie in evidence.after.items():
        for slot in movie["timeSlots"]:
            if not 0 <= slot.get("bookedCount", 0) <= slot["capacity"]:
                yield f"I1: {movie_id} slot {slot['id']} holds {slot}"


def _seats(evidence: Evidence) -> Iterator[str]:
    people: dict[tuple[Any, int], int] = defaultdict(int)
    for entry in evidence.ledger.values():
        if entry["outcome"] == "confirmed":
            people[entry["movieId"], entry["timeSlotId"]] += entry["numberOfPeople"]
    for (movie_id, slot), capacity_and_count in _counts(evidence.after).items():
        earlier = _counts(evidence.before)[movie_id, slot][1]
        booked = capacity_and_count[1]
        if booked != earlier + people.pop((movie_id, slot), 0):
            yield f"I2: {movie_id} slot {slot} has {booked} booked, which the ledger does not say"
    yield from (f"I2: seats confirmed in {place}, which does not exist" for place in people)


def _counts(movies: Mapping[Any, Document]) -> dict[tuple[Any, int], tuple[int, int]]:
    return {
        (movie_id, slot["id"]): (slot["capacity"], slot.get("bookedCount", 0))
        for movie_id, movie in movies.items()
        for slot in movie["timeSlots"]
    }


def _entries(evidence: Evidence) -> Iterator[str]:
    asked = {request["requestId"]: request for request in evidence.sent}
    for request_id, entry in evidence.ledger.items():
        if request_id not in asked:
            yield f"I3: {request_id} is in the ledger and was never sent"
            continue
        for name in ("movieId", "timeSlotId", "numberOfPeople"):
            if entry[name] != asked[request_id][name]:
                yield f"I3: {request_id} is recorded with another {name}"
    yield from (f"I4: {name} has no outcome" for name in asked if name not in evidence.ledger)


def _events(evidence: Evidence) -> Iterator[str]:
    for request_id, bodies in evidence.events.items():
        entry = evidence.ledger.get(request_id)
        if entry is None:
            yield f"I4: {request_id} was announced and is not recorded"
        elif len(set(bodies)) != 1:
            yield f"I3: {request_id} was announced in {len(set(bodies))} ways"
        elif json.loads(bodies[0]) != _as_event(entry):
            yield f"I3: {request_id} was announced as {bodies[0]!r}, recorded as {entry}"


def _as_event(entry: Document) -> dict[str, Any]:
    renamed = {"requestId" if name == "_id" else name: value for name, value in entry.items()}
    moment = renamed["decidedAt"].isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {**renamed, "decidedAt": moment}


def _answers(evidence: Evidence) -> Iterator[str]:
    unheard = {request["requestId"] for request in evidence.sent} - evidence.events.keys()
    yield from (f"I5: {request_id} was never announced" for request_id in unheard)
    yield from (f"I5: dead letter {error} for {body!r}" for error, body in evidence.letters)
    if evidence.left_in_queue:
        yield f"I5: {evidence.left_in_queue} requests are still in the queue"


def _versions(evidence: Evidence) -> Iterator[str]:
    created: dict[Any, set[int]] = defaultdict(set)
    for entry in evidence.ledger.values():
        if entry["outcome"] == "confirmed":
            created[entry["movieId"]].add(entry["movieVersion"])
    for movie_id, movie in evidence.after.items():
        first, last = (m.get("version", 0) for m in (evidence.before[movie_id], movie))
        if created[movie_id] != set(range(first + 1, last + 1)):
            yield f"I6: {movie_id} went from version {first} to {last} by {len(created[movie_id])}"


def _reasons(evidence: Evidence) -> Iterator[str]:
    """Each decision held when it was made: seats go down version by version, one by one."""
    entries: dict[tuple[Any, Any], list[Document]] = defaultdict(list)
    for entry in evidence.ledger.values():
        entries[entry["movieId"], entry["timeSlotId"]].append(entry)
    for place, (capacity, booked) in _counts(evidence.before).items():
        yield from _history(place, capacity - booked, entries[place])


def _history(place: object, seats: int, entries: Iterable[Document]) -> Iterator[str]:
    confirmed = [entry for entry in entries if entry["outcome"] == "confirmed"]
    confirmed.sort(key=lambda entry: (entry["movieVersion"], -entry["seatsAvailable"]))
    left_at: dict[int, set[int]] = {}
    for entry in confirmed:
        room = left_at.setdefault(entry["movieVersion"], {seats})
        seats -= entry["numberOfPeople"]
        room.add(seats)
        if seats != entry["seatsAvailable"]:
            yield f"{place}: {entry['_id']} left {seats} seats, said {entry['seatsAvailable']}"
    for entry in entries:
        if entry.get("reason") == "sold_out":
            left = entry["seatsAvailable"]
            if entry["numberOfPeople"] <= left:
                yield f"{place}: {entry['_id']} was sold out with {left} seats left"
            if left not in left_at.get(entry["movieVersion"], {left}):
                yield f"{place}: {entry['_id']} saw {left} seats, which there never were"
