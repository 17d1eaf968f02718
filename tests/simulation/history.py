"""What the auditor keeps as it goes: the requests that were sent, and the primary's writes.

Checks each write as it comes: its bookings must be those of its ledger entries, and each entry must
have been true of a movie that a majority had while the request was in flight.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from tests.simulation.evidence import (
    Delivered,
    Document,
    MajorityHas,
    Poisonous,
    RolledBack,
    Sent,
    Written,
)
from tests.simulation.oracle import (
    Request,
    Verdict,
    is_malformed,
    is_recorded_as,
    number,
    parsed,
    recorded_verdict,
    seats_left,
    slots_of,
    verdict,
)

STALE_SECONDS_MAX: Final = 10
"""How far behind a majority read may be: a primary that has lost its majority steps down after this
time (MongoDB's default ``electionTimeoutMillis``)."""


class Requests:
    """The requests that publishers have sent."""

    def __init__(self) -> None:
        self.bodies: dict[int, bytes] = {}
        self.first_sent: dict[str, float] = {}
        self.by_id: defaultdict[str, list[Request]] = defaultdict(list)
        self.failures: Counter[str] = Counter()
        self.poisonous: set[str] = set()
        self._parsed: dict[bytes, Request | None] = {}

    def parsed(self, body: bytes) -> Request | None:
        """The request in this body; None if there is none."""
        if body not in self._parsed:
            self._parsed[body] = parsed(body)
        return self._parsed[body]

    def on_sent(self, fact: Sent) -> None:
        """Keep a request, new or repeated."""
        self.bodies[fact.message] = fact.body
        request = self.parsed(fact.body)
        if request is not None:
            self.first_sent.setdefault(request.request_id, fact.at_seconds)
            self.by_id[request.request_id].append(request)

    def on_poisonous(self, fact: Poisonous) -> None:
        """Keep the id of a request that may kill its worker."""
        self.poisonous.add(fact.request_id)

    def on_delivered(self, fact: Delivered) -> None:
        """Keep how often the deliveries of a request have failed."""
        request = self.parsed(self.bodies[fact.message])
        if request is not None:
            self.failures[request.request_id] = max(
                self.failures[request.request_id], fact.failures
            )


@dataclass(frozen=True, slots=True)
class Stored:
    """Both collections after a write, keyed by the ids that requests use."""

    movies: Mapping[str, Document]
    ledger: Mapping[str, Document]


class WriteHistory:
    """The log of writes, and how much of it a majority had at each time."""

    def __init__(self, requests: Requests, clock_start: datetime) -> None:
        self._requests = requests
        self._clock_start = clock_start
        self._at_seconds = 0.0
        self._log = [Stored({}, {})]
        self._majorities = [(0.0, self._log[0])]
        self._primaries = [(0.0, self._log[0])]

    @property
    def majority(self) -> Stored:
        """What a majority has, and so will never be rolled back."""
        return self._majorities[-1][1]

    @property
    def has_unreplicated_writes(self) -> bool:
        """Whether some writes may still be rolled back."""
        return self._log[-1] is not self.majority

    def on_majority(self, fact: MajorityHas) -> None:
        """A majority has received more of the log."""
        self._majorities.append((fact.at_seconds, self._log[fact.writes]))

    def on_rolled_back(self, fact: RolledBack) -> None:
        """Forget the end of the log, which was rolled back."""
        del self._log[fact.writes + 1 :]

    def on_written(self, fact: Written) -> Iterator[str]:
        """Append a write to the log; yields everything that is wrong with it."""
        self._at_seconds = fact.at_seconds
        before = self._log[-1]
        movies = dict(before.movies)
        for key, document in fact.movies.items():
            if document is None:
                del movies[str(key)]
            else:
                movies[str(key)] = document
        after = Stored(movies, {**before.ledger, **fact.ledger})
        self._log.append(after)
        self._primaries.append((fact.at_seconds, after))
        for document in fact.movies.values():
            yield from _overbooked(document)
        if fact.writer == "worker":
            for key in fact.movies:
                yield from self._check_booking(str(key), before, after, fact.ledger.values())
            for request_id, entry in fact.ledger.items():
                yield from self._check_entry(request_id, entry, before, after)

    def _check_booking(
        self, name: str, before: Stored, after: Stored, entries: Iterable[Document]
    ) -> Iterator[str]:
        """The version is raised by 1 and the entries' people are added; nothing else changes."""
        expected = dict(before.movies[name])
        expected["version"] = number(expected, "version") + 1
        people: Counter[int] = Counter()
        for entry in entries:
            if entry["outcome"] == "confirmed" and entry["movieId"] == name:
                people[entry["timeSlotId"]] += entry["numberOfPeople"]
        expected["timeSlots"] = [
            {**slot, "bookedCount": number(slot, "bookedCount") + people[slot["id"]]}
            if slot["id"] in people
            else slot
            for slot in expected["timeSlots"]
        ]
        if not people or expected != after.movies[name]:
            yield f"I2, I6: {name} became {after.movies[name]}, not {expected}"

    def _check_entry(
        self, request_id: str, entry: Document, before: Stored, after: Stored
    ) -> Iterator[str]:
        if request_id in before.ledger:
            yield f"I3: {request_id} was recorded before: {before.ledger[request_id]}"
        requests = [r for r in self._requests.by_id[request_id] if is_recorded_as(r, entry)]
        if not requests:
            yield f"I3: no request asks for {entry}"
            return
        decided_at = entry["decidedAt"]
        if not self._moment(self._requests.first_sent[request_id]) <= decided_at <= self._moment():
            yield f"{request_id} was decided at {decided_at}, before it was sent or in the future"
        # Bodies with the same content may differ in expiresAt.
        possible = {
            v for r in requests for v in self._possible(r, decided_at, before, after, request_id)
        }
        if recorded_verdict(entry) not in possible:
            yield f"I3: {entry} was never true; possible were {possible}"

    def _moment(self, at_seconds: float | None = None) -> datetime:
        """The time on the worker's clock, in whole milliseconds."""
        at = self._at_seconds if at_seconds is None else at_seconds
        moment = self._clock_start + timedelta(seconds=at)
        return moment.replace(microsecond=moment.microsecond // 1000 * 1000)

    def _possible(
        self, request: Request, now: datetime, before: Stored, after: Stored, request_id: str
    ) -> Iterator[Verdict]:
        """All verdicts the request may get: on what a majority had, or later in its own batch."""
        if request.invalid_fields:
            yield "invalid_request", None, None
            return
        stored = before.movies.get(request.movie_id)
        booked = stored is not after.movies.get(request.movie_id)
        for movie in self.movies_seen(request, self._at_seconds):
            if movie is not None and is_malformed(movie, request.time_slot_id):
                continue
            yield from _rejection(verdict(request, movie, now))
            if booked and number(movie or {}, "version") == number(stored or {}, "version"):
                yield from _rejection(verdict(request, movie, now, raised=1))
        if booked:
            for seats, confirmed_id in self._seats_before_each(request, before, after):
                reason, version, left = verdict(request, stored, now, 1, seats)
                if reason == "confirmed" and confirmed_id == request_id:
                    yield reason, version, seats - request.people
                elif reason != "confirmed":
                    yield reason, version, left

    def _seats_before_each(
        self, request: Request, before: Stored, after: Stored
    ) -> Iterator[tuple[int, str]]:
        """The seats left before each confirmation of this write, and the request confirmed."""
        slot = slots_of(before.movies[request.movie_id]).get(request.time_slot_id)
        if slot is None:
            return
        confirmed = [
            entry
            for name, entry in after.ledger.items()
            if name not in before.ledger
            and (entry["outcome"], entry.get("movieId"), entry.get("timeSlotId"))
            == ("confirmed", request.movie_id, request.time_slot_id)
        ]
        left = seats_left(slot)
        for entry in sorted(confirmed, key=lambda entry: -int(entry["seatsAvailable"])):
            yield left, entry["_id"]
            left -= entry["numberOfPeople"]
        yield left, ""

    def movies_seen(self, request: Request, now_seconds: float) -> Iterator[Document | None]:
        """The movie as a majority had it, from shortly before the request was sent until now."""
        return self._since(request, now_seconds, self._majorities)

    def movies_had(self, request: Request, now_seconds: float) -> Iterator[Document | None]:
        """The movie as any primary had it, even if rolled back: a booking may have been tried."""
        return self._since(request, now_seconds, self._primaries)

    def _since(
        self, request: Request, now_seconds: float, history: Sequence[tuple[float, Stored]]
    ) -> Iterator[Document | None]:
        since = self._requests.first_sent[request.request_id] - STALE_SECONDS_MAX
        until = now_seconds + 1
        last: object = "unset"
        for began, stored in reversed(history):
            movie = stored.movies.get(request.movie_id)
            if began < until and movie is not last:
                yield movie
                last = movie
            if began <= since:
                return
            until = began


def _overbooked(movie: Document | None) -> Iterator[str]:
    for slot in (movie or {}).get("timeSlots", ()):
        # In MongoDB's order, and so for its validator, a string is greater than any number.
        if not isinstance(slot["capacity"], str) and not (
            0 <= number(slot, "bookedCount") <= slot["capacity"]
        ):
            yield f"I1: overbooked: {movie}"


def _rejection(possible: Verdict) -> Iterator[Verdict]:
    if possible[0] != "confirmed":
        yield possible
