"""A fact as one line of the trace that ``make simulate SEED=…`` prints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tests.simulation.evidence import (
    Delivered,
    Discarded,
    Document,
    Fact,
    MajorityHas,
    Misused,
    Poisonous,
    Published,
    RolledBack,
    Sent,
    Settled,
    Written,
)


def described(fact: Fact) -> tuple[str, str]:
    """Who did it, and what it was; for a tracer."""
    match fact:
        case Sent():
            return "publisher", f"sends #{fact.message}: {fact.body.decode(errors='replace')}"
        case Poisonous():
            return "world", f"{fact.request_id} kills any worker that handles it"
        case Written() | MajorityHas() | RolledBack():
            return "mongod", _of_mongod(fact)
        case _:
            return "broker", _of_broker(fact)


def _of_mongod(fact: Written | MajorityHas | RolledBack) -> str:
    match fact:
        case Written():
            changes = [*_movies(fact.movies), *_entries(fact.ledger)]
            who = "a worker" if fact.writer == "worker" else "another program"
            return f"writes for {who}: {'; '.join(changes)}"
        case MajorityHas():
            return f"has the first {fact.writes} writes on a majority"
        case RolledBack():
            return f"keeps the first {fact.writes} writes and rolls back the others"


def _of_broker(fact: Delivered | Settled | Discarded | Misused | Published) -> str:
    match fact:
        case Delivered():
            return f"delivers #{fact.message} to {fact.worker}, after {fact.failures} failures"
        case Settled():
            return f"removes #{fact.message}, acknowledged by {fact.worker}"
        case Discarded():
            return f"discards #{fact.message}"
        case Misused():
            return f"closes a channel: {fact.what}"
        case Published():
            error = fact.headers.get("x-reservation-error", "")
            where = f"{fact.exchange or fact.routing_key} {error}".strip()
            return f"receives for {where}: {fact.body.decode(errors='replace')}"


def _movies(movies: Mapping[object, Document | None]) -> Iterator[str]:
    for name, movie in movies.items():
        if movie is None:
            yield f"{name} is deleted"
        else:
            slots = (
                f"{slot['id']}: {slot.get('bookedCount', 0)}/{slot['capacity']}"
                for slot in movie["timeSlots"]
            )
            frozen = ", frozen" if "frozen" in movie else ""
            yield f"{name} version {movie.get('version')} ({', '.join(slots)}{frozen})"


def _entries(ledger: Mapping[str, Document]) -> Iterator[str]:
    for name, entry in ledger.items():
        asked = f"{entry.get('numberOfPeople')} in {entry.get('movieId')}/{entry.get('timeSlotId')}"
        outcome = entry.get("reason", entry["outcome"])
        at = f"version {entry.get('movieVersion')}, {entry.get('seatsAvailable')} left"
        yield f"{name}, {asked}: {outcome} at {at}"
