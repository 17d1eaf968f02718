"""Short ways to write down requests, movies and decisions in tests.

Every value has a default, so that a test names only what it is about.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

from contracts import FieldProblem, InvalidRequest, OutcomeEvent, ReservationRequest
from worker.rules.decision import Decided, Decision, Reused, Undecidable
from worker.rules.snapshot import Malformed, Movie, TimeSlot

NOW: Final = datetime(2026, 11, 22, 18, 0, 0, 123000, tzinfo=UTC)
SECOND: Final = timedelta(seconds=1)


def ask(
    request_id: str = "r1",
    *,
    movie: str = "heat",
    slot: int = 1,
    people: int = 2,
    expires_at: datetime | None = None,
) -> ReservationRequest:
    """A valid request for two people in time slot 1 of the movie ``heat``."""
    return ReservationRequest(
        request_id=request_id,
        movie_id=movie,
        time_slot_id=slot,
        number_of_people=people,
        expires_at=expires_at,
    )


def faulty(
    request_id: str = "r1",
    *,
    field: str = "numberOfPeople",
    held: str = "0",
    movie: str = "heat",
    slot: int = 1,
) -> InvalidRequest:
    """A request of which one field, the people by default, broke its rule."""
    return InvalidRequest(
        request_id=request_id,
        movie_id=None if field == "movieId" else movie,
        time_slot_id=None if field == "timeSlotId" else slot,
        number_of_people=None if field == "numberOfPeople" else 2,
        errors=(FieldProblem(field=field, problem=f"must be something else, not {held}"),),
    )


def movie(
    *, key: str = "heat", version: int = 7, slots: Mapping[int, TimeSlot | Malformed] | None = None
) -> Movie:
    """Version 7, and in time slot 1 ten seats, four of them booked."""
    return Movie(
        key=key, version=version, time_slots=slots or {1: TimeSlot(capacity=10, booked_count=4)}
    )


def confirmed(request: ReservationRequest, *, version: int = 5, left: int = 3) -> OutcomeEvent:
    """What the ledger holds of a request that was confirmed earlier."""
    return OutcomeEvent(
        request_id=request.request_id,
        movie_id=request.movie_id,
        time_slot_id=request.time_slot_id,
        number_of_people=request.number_of_people,
        outcome="confirmed",
        movie_version=version,
        seats_available=left,
        decided_at=NOW - timedelta(hours=1),
    )


def found_invalid(request: InvalidRequest) -> OutcomeEvent:
    """What the ledger holds of a request that was found invalid earlier."""
    return OutcomeEvent(
        request_id=request.request_id,
        movie_id=request.movie_id,
        time_slot_id=request.time_slot_id,
        number_of_people=request.number_of_people,
        outcome="rejected",
        reason="invalid_request",
        errors=request.errors,
        decided_at=NOW - timedelta(hours=1),
    )


def shown(decision: Decision) -> str:
    """A decision in a few words: ``confirmed, version 8, 4 left``."""
    match decision:
        case Reused():
            return "reused"
        case Undecidable(detail):
            return f"undecidable: {detail}"
        case OutcomeEvent():
            words: list[str] = [decision.reason or decision.outcome]
            if decision.movie_version is not None:
                words.append(f"version {decision.movie_version}")
            if decision.seats_available is not None:
                words.append(f"{decision.seats_available} left")
            return ", ".join(words)


def shown_all(decided: Decided) -> list[str]:
    """The decisions of a batch, in order."""
    return [shown(decision) for decision in decided.decisions]
