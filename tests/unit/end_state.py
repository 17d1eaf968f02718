"""Good evidence of an end state, with every answer that the contract knows, to be forged by tests.

An entry of the ledger and the events that carry it are forged together, so that what is found is
not the mere difference between the two.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Self

from worker.devtools.auditor import Evidence, Kind, audit

Document = dict[str, Any]

MOMENT: Final = datetime(2026, 11, 22, 18, 0, 0, 123_000, tzinfo=UTC)
MOMENT_TEXT: Final = "2026-11-22T18:00:00.123Z"


def request(name: str, people: int, slot: int = 1, **others: object) -> Document:
    fields = {"requestId": name, "movieId": "heat", "timeSlotId": slot, "numberOfPeople": people}
    return {**fields, **others}


def confirmed(people: int, slot: int, version: int, left: int) -> Document:
    taken = {"movieId": "heat", "timeSlotId": slot, "numberOfPeople": people}
    return {**taken, "outcome": "confirmed", "movieVersion": version, "seatsAvailable": left}


def rejected(reason: str, people: int, slot: int, **others: object) -> Document:
    asked = {"movieId": "heat", "timeSlotId": slot, "numberOfPeople": people}
    return {**asked, "outcome": "rejected", "reason": reason, **others}


def invalid(broken: str, **others: object) -> Document:
    errors = [{"field": broken, "problem": "breaks its rule"}]
    return {"outcome": "rejected", "reason": "invalid_request", "errors": errors, **others}


def event(name: str, entry: Document, **changes: object) -> bytes:
    return json.dumps({**entry, "requestId": name, "decidedAt": MOMENT_TEXT, **changes}).encode()


def encoded(document: Document) -> bytes:
    return json.dumps(document).encode()


def slot(number: int, capacity: int, booked: int) -> Document:
    return {"id": number, "capacity": capacity, "bookedCount": booked}


LATE_COPY: Final = request("a", 3, expiresAt="2001-01-01T00:00:00Z")
REUSED: Final = request("a", 4)
BAD_PEOPLE: Final = request("people", 0, 2)
OTHER_MOVIE: Final = {"_id": 7, "timeSlots": [slot(1, 3, 2)]}
"""As imported, without a version, and never asked for."""
BAD_TIME: Final = request("time", 1, 2, expiresAt="tomorrow")


@dataclass
class Case:
    """Evidence in which all is well, until a test changes it."""

    sent: dict[str, Document] = field(
        default_factory=lambda: {
            "a": request("a", 3),
            "b": request("b", 3),
            "c": request("c", 2),
            "d": request("d", 1, 2),
            "e": request("e", 1, 2),
            "early": request("early", 6, 3),
            "late": request("late", 1, 2, expiresAt="2026-11-22t18:00:00z"),
            "in time": request("in-time", 6, 3, expiresAt=MOMENT_TEXT),
            "movie": request("movie", 1, movieId="ran"),
            "slot": request("slot", 1, 9),
            "people": BAD_PEOPLE,
            "time": BAD_TIME,
        }
    )
    bodies: list[bytes] = field(
        default_factory=lambda: [encoded(LATE_COPY), encoded(REUSED), *[b"not JSON"] * 2]
    )
    ledger: dict[str, Document] = field(
        default_factory=lambda: {
            "a": confirmed(3, 1, version=4, left=2),
            "b": rejected("sold_out", 3, 1, movieVersion=4, seatsAvailable=2),
            "c": confirmed(2, 1, version=5, left=0),
            "d": confirmed(1, 2, version=5, left=3),
            "e": confirmed(1, 2, version=5, left=2),
            "early": rejected("sold_out", 6, 3, movieVersion=3, seatsAvailable=5),
            "late": rejected("expired", 1, 2, movieVersion=5, seatsAvailable=2),
            "in-time": rejected("sold_out", 6, 3, movieVersion=5, seatsAvailable=5),
            "movie": rejected("unknown_movie", 1, 1, movieId="ran"),
            "slot": rejected("unknown_time_slot", 1, 9, movieVersion=5),
            "people": invalid("numberOfPeople", movieId="heat", timeSlotId=2),
            "time": invalid("expiresAt", movieId="heat", timeSlotId=2, numberOfPeople=1),
        }
    )
    repeated: Counter[str] = field(default_factory=lambda: Counter({"a": 1}))
    """How many more events there are of a request than one."""
    events: list[bytes] = field(default_factory=list)
    dead_letters: list[tuple[str, bytes]] = field(
        default_factory=lambda: [
            ("request_id_reused", encoded(REUSED)),
            ("invalid_request", encoded(BAD_PEOPLE)),
            ("invalid_request", encoded(BAD_TIME)),
            *[("unreadable_request", b"not JSON")] * 2,
        ]
    )
    before: Document = field(
        default_factory=lambda: {
            "_id": "heat",
            "version": 3,
            "timeSlots": [slot(1, 10, 5), slot(2, 4, 0), {"id": 3, "capacity": 5}, slot(4, 5, 0)],
        }
    )
    after: Document = field(
        default_factory=lambda: {
            "_id": "heat",
            "version": 5,
            "timeSlots": [slot(1, 10, 10), slot(2, 4, 2), slot(3, 5, 0), slot(4, 5, 0)],
        }
    )
    left_in_queue: int = 0

    def forge(self, name: str, *without: str, **changes: object) -> Self:
        """Change an entry, and with it the events that carry it."""
        changed = {**self.ledger[name], **changes}
        self.ledger[name] = {key: value for key, value in changed.items() if key not in without}
        return self

    def forge_slot(self, number: int, **changes: int) -> Self:
        """Change a time slot as it is now."""
        self.after["timeSlots"][number - 1].update(changes)
        return self

    def forge_event(self, name: str, *without: str, **changes: object) -> None:
        """Change the event of a request and leave its entry as it is."""
        self.repeated[name] = -1
        entry = {key: value for key, value in self.ledger[name].items() if key not in without}
        self.events.append(event(name, entry, **changes))

    def found(self) -> list[Kind]:
        """The kinds of what the auditor finds, sorted."""
        carried = [
            event(name, entry)
            for name, entry in self.ledger.items()
            for _ in range(1 + self.repeated[name])
        ]
        evidence = Evidence(
            sent=[*self.sent.values(), *self.bodies],
            events=[*carried, *self.events],
            dead_letters=self.dead_letters,
            ledger=[{"_id": n, **e, "decidedAt": MOMENT} for n, e in self.ledger.items()],
            before=[self.before, OTHER_MOVIE],
            after=[self.after, OTHER_MOVIE],
            left_in_queue=self.left_in_queue,
        )
        return sorted(finding.kind for finding in audit(evidence))
