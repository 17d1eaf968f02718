"""The rule that decides a reservation: a pure function from what was read to what is to be written.

No I/O, no clock and no randomness: the same requests, the same snapshot and the same ``now`` always
give the same decisions. A decision becomes an outcome only when it has been committed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from contracts import InvalidRequest, OutcomeEvent, RejectionReason, ReservationRequest
from worker.rules.snapshot import Malformed, Movie, Snapshot, TimeSlot

Request = ReservationRequest | InvalidRequest


@dataclass(frozen=True, slots=True)
class Reused:
    """The request id is taken by a request with other content; its first outcome stands."""

    detail: str


@dataclass(frozen=True, slots=True)
class Undecidable:
    """No decision is possible until what is stored has been corrected."""

    detail: str


Decision = OutcomeEvent | Reused | Undecidable

_CONTENT_FIELDS: Final = frozenset({"movieId", "timeSlotId", "numberOfPeople"})


@dataclass(frozen=True, slots=True)
class Booking:
    """The people to be added to each time slot of one movie, as a single versioned update."""

    movie: Movie
    people: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class Decided:
    """What a batch comes to: a decision for each request, in order, and what is to be committed."""

    decisions: Sequence[Decision]
    outcomes: Sequence[OutcomeEvent]
    bookings: Sequence[Booking]


@dataclass(slots=True)
class _SeatsLeft:
    """The seats left in one movie while its batch is being decided."""

    movie: Movie
    people: dict[int, int] = field(default_factory=dict)

    @property
    def version(self) -> int:
        """All bookings of a batch are one update, and so raise the version by one."""
        return self.movie.version + 1 if self.people else self.movie.version

    def seats_available(self, time_slot_id: int) -> int | None:
        """The seats that are still available; None if there is no such time slot."""
        time_slot = self.movie.time_slots.get(time_slot_id)
        if not isinstance(time_slot, TimeSlot):
            return None
        return time_slot.seats_available - self.people.get(time_slot_id, 0)

    def take(self, time_slot_id: int, number_of_people: int) -> None:
        self.people[time_slot_id] = self.people.get(time_slot_id, 0) + number_of_people


def decide(requests: Sequence[Request], snapshot: Snapshot, now: datetime) -> Decided:
    """Decide in arrival order: each confirmation takes its seats before the next request is judged.

    ``now`` is the time of every decision of the batch.
    """
    seats_left = {
        movie_id: _SeatsLeft(movie)
        for movie_id, movie in snapshot.movies.items()
        if isinstance(movie, Movie)
    }
    recorded: dict[str, OutcomeEvent] = {}
    decisions: list[Decision] = []
    for request in requests:
        # Idempotency comes before every other rule: a request that has an outcome keeps it.
        earlier = snapshot.ledger.get(request.request_id) or recorded.get(request.request_id)
        if earlier is not None:
            decisions.append(repeated(request, earlier))
        elif (malformed := _malformed(request, snapshot)) is not None:
            decisions.append(Undecidable(malformed.detail))
        else:
            outcome = _first_outcome(request, seats_left.get(request.movie_id or ""), now)
            recorded[request.request_id] = outcome
            decisions.append(outcome)
    return Decided(
        decisions=decisions,
        outcomes=list(recorded.values()),
        bookings=[Booking(left.movie, left.people) for left in seats_left.values() if left.people],
    )


def _first_outcome(request: Request, left: _SeatsLeft | None, now: datetime) -> OutcomeEvent:
    """The contract's reasons in their order: the first that holds is the reason."""
    if isinstance(request, InvalidRequest):
        return _outcome(request, "invalid_request", now)
    if left is None:
        return _outcome(request, "unknown_movie", now)
    seats = left.seats_available(request.time_slot_id)
    if seats is None:
        return _outcome(request, "unknown_time_slot", now, left.version)
    if request.expires_at is not None and now > request.expires_at:
        return _outcome(request, "expired", now, left.version, seats)
    if request.number_of_people > seats:
        return _outcome(request, "sold_out", now, left.version, seats)
    left.take(request.time_slot_id, request.number_of_people)
    return _outcome(request, None, now, left.version, seats - request.number_of_people)


def _outcome(
    request: Request,
    reason: RejectionReason | None,
    now: datetime,
    movie_version: int | None = None,
    seats_available: int | None = None,
) -> OutcomeEvent:
    return OutcomeEvent(
        request_id=request.request_id,
        movie_id=request.movie_id,
        time_slot_id=request.time_slot_id,
        number_of_people=request.number_of_people,
        outcome="rejected" if reason else "confirmed",
        reason=reason,
        errors=request.errors if isinstance(request, InvalidRequest) else None,
        movie_version=movie_version,
        seats_available=seats_available,
        decided_at=now,
    )


def repeated(request: Request, earlier: OutcomeEvent) -> OutcomeEvent | Reused:
    """The earlier outcome if it answers this request: the content decides, not the id alone."""
    if _content_of(request) == _content_of(earlier):
        return earlier
    return Reused(
        f"{request.request_id} is the id of an earlier request with other content, "
        f"which was {earlier.outcome} at {earlier.decided_at.isoformat()}"
    )


def _content_of(message: Request | OutcomeEvent) -> tuple[object, ...]:
    """The movie, the time slot and the people that were asked for, and nothing else of the body.

    A value that broke its rule is in the errors and not in its field, so the errors of these three
    fields are part of the content. None distinguishes a valid request from one without such errors.
    """
    errors = None if isinstance(message, ReservationRequest) else message.errors
    return (
        message.movie_id,
        message.time_slot_id,
        message.number_of_people,
        None if errors is None else tuple(e for e in errors if e.field in _CONTENT_FIELDS),
    )


def _malformed(request: Request, snapshot: Snapshot) -> Malformed | None:
    """The stored movie or time slot that this request is for, if it is malformed."""
    if isinstance(request, InvalidRequest):
        return None
    movie = snapshot.movies.get(request.movie_id)
    stored = movie.time_slots.get(request.time_slot_id) if isinstance(movie, Movie) else movie
    return stored if isinstance(stored, Malformed) else None
