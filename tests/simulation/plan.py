"""What happens in a world, drawn from its seed: workers, servers, requests, edits and faults.

Small on purpose: with few movies, slots and requests they collide, and a failure stays readable.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Any, Final, Literal, get_args

from tests.simulation.workload import (
    Edit,
    ScheduledRequest,
    draw_edits,
    draw_movies,
    draw_requests,
    insertion,
)
from tests.simulation.world import FaultRates

HORIZONS_SECONDS: Final = (0.02, 0.05, 0.1, 0.5, 5)
"""How long publishers send: in a rush requests collide, in a trickle they meet the faults."""

WORK_SECONDS: Final = 1.5
LARGE_SHARE: Final = 0.02
"""The share of worlds with enough requests for batches to be partitioned."""

FaultKind = Literal[
    "crash",
    "crash after some messages",
    "pause",
    "stop",
    "connection lost",
    "channel closed",
    "consumer cancelled",
    "broker down",
    "publishers blocked",
    "election",
    "no primary",
    "slow replication",
]

DURATIONS_SECONDS: Final[Mapping[FaultKind, tuple[float, ...]]] = {
    "pause": (0.05, 0.3, 0.5, 1, 3, 5, 10, 20, 70, 500),
    "broker down": (0.1, 10),
    "publishers blocked": (0.1, 0.3, 0.5, 1, 3, 5, 10, 30, 150, 700),
    "election": (0.3, 4, 12),
    "no primary": (6, 6, 7, 7, 10, 10, 15, 20, 40, 700),
    "slow replication": (0.5, 15),
}
"""Faults of the other kinds take no time."""

CRASH_MESSAGES_MAX: Final = 40


Poison = Literal["at once", "once recorded"]
"""From when on a request kills any worker that handles it."""
POISON_SHARE: Final = 0.03


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that goes wrong at a worker or at a server, and how long it lasts."""

    at_seconds: float
    kind: FaultKind
    seconds: float
    worker: int
    count: int


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything about a world that is decided before it begins."""

    busy_seconds: float
    """The shortest time in which faults may happen."""
    workers: int
    batch_size: int
    consumer_timeout_seconds: float
    nack_is_failure: bool
    fault_rates: FaultRates
    movies: Mapping[object, dict[str, Any]]
    requests: list[ScheduledRequest]
    edits: list[Edit]
    faults: list[Fault]
    poison: Mapping[str, Poison]

    @property
    def end_seconds(self) -> float:
        """When the last fault is over and all_movies has been sent."""
        ends = [self.busy_seconds]
        ends += [fault.at_seconds + fault.seconds for fault in self.faults]
        ends += [request.at_seconds for request in self.requests]
        return max([*ends, *(edit.at_seconds for edit in self.edits)])


def plan_of(seed: int) -> Plan:
    """The plan of this seed."""
    chance = Random(f"plan {seed}")
    is_large = chance.random() < LARGE_SHARE
    horizon_seconds = 0.1 if is_large else chance.choice(HORIZONS_SECONDS)
    movies = draw_movies(chance, 4 if is_large else chance.choice((1, 1, 2, 3)))
    late_movies = draw_movies(chance, len(movies) + 1) if chance.random() < 0.3 else {}
    late_movies = {
        key: movie for key, movie in late_movies.items() if str(key) not in map(str, movies)
    }
    # Requests sent in an instant take a while to be answered, which is when faults matter.
    busy_seconds = horizon_seconds + WORK_SECONDS * chance.random()
    workers = chance.choice((1, 2, 2, 3, 3))
    request_count = 200 if is_large else chance.randint(4, 16)
    edit_count = chance.choice((0, 0, 0, 2, 5))
    fault_count = chance.choice((0, 1, 1, 2, 4))
    all_movies = [*movies.values(), *late_movies.values()]
    return Plan(
        busy_seconds=busy_seconds,
        workers=workers,
        batch_size=40 if is_large else chance.choice((1, 1, 2, 3, 5, 20)),
        consumer_timeout_seconds=chance.choice((100, 1800, 1800)),
        nack_is_failure=chance.random() < 0.5,
        fault_rates=_fault_rates(chance),
        movies=movies,
        requests=draw_requests(chance, all_movies, request_count, horizon_seconds),
        edits=[
            *(insertion(chance, movie, horizon_seconds) for movie in late_movies.values()),
            *draw_edits(chance, all_movies, edit_count, busy_seconds),
        ],
        faults=[_fault(chance, workers, busy_seconds) for _ in range(fault_count)],
        poison=_poison(chance),
    )


def _fault_rates(chance: Random) -> FaultRates:
    def rate(most: float) -> float:
        return most * chance.random() if chance.random() < 0.3 else 0.0

    return FaultRates(
        command_lost=rate(0.1),
        reply_lost=rate(0.1),
        command_late=rate(0.05),
        stale_read=rate(0.7),
        publish_refused=rate(0.3),
        confirm_late=rate(0.1),
    )


def _poison(chance: Random) -> dict[str, Poison]:
    if chance.random() >= POISON_SHARE:
        return {}
    return {f"r{chance.randrange(4)}": chance.choice(get_args(Poison))}


def _fault(chance: Random, workers: int, busy_seconds: float) -> Fault:
    kind: FaultKind = chance.choice(get_args(FaultKind))
    return Fault(
        at_seconds=busy_seconds * chance.random(),
        kind=kind,
        seconds=chance.choice(DURATIONS_SECONDS.get(kind, (0.0,))),
        worker=chance.randrange(workers),
        count=chance.randint(1, CRASH_MESSAGES_MAX),
    )
