"""What the contestants are asked to do: the movies in the database, and the requests for them.

Pure: the same workload and seed give the same requests. Seats never run out unless that is the
point of the workload, so chance makes it neither harder nor easier for a contestant.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from contracts import ReservationRequest

SEATS_ENOUGH: Final = 1_000_000_000
SEATS_OF_A_FULL_SLOT: Final = 400
PEOPLE_MAX: Final = 6
REPEAT_WITHIN: Final = 2_000
"""A request is repeated at most so many requests later, as by a redelivery or an impatient client:
sometimes in the same batch, sometimes long after its commit."""


@dataclass(frozen=True, slots=True)
class Workload:
    """Requests for a number of movies, each with a number of time slots."""

    name: str
    movies: int = 1
    time_slots: int = 5
    sold_out: bool = False
    repeated: bool = False
    catalogue: int = 0
    """Movies in the collection, of which ``movies`` are requested; 0 for no others."""

    def movie_documents(self) -> Iterator[dict[str, Any]]:
        """The collection as it is before the first request."""
        capacity = SEATS_OF_A_FULL_SLOT if self.sold_out else SEATS_ENOUGH
        booked_count = capacity if self.sold_out else 0
        for number in range(self.catalogue or self.movies):
            yield {
                "_id": _movie_id(number),
                "title": f"Benchmark {number}",
                "version": 0,
                "timeSlots": [
                    {"id": slot, "capacity": capacity, "bookedCount": booked_count}
                    for slot in range(self.time_slots)
                ],
            }

    def requests(self, seed: int) -> Iterator[ReservationRequest]:
        """An endless sequence of requests; another seed has other request ids."""
        chance = random.Random(seed)
        if not self.repeated:
            yield from self._new_requests(chance)
        new_requests = self._new_requests(chance)
        while True:
            repeated = list(itertools.islice(new_requests, REPEAT_WITHIN // 2)) * 2
            chance.shuffle(repeated)
            yield from repeated

    def _new_requests(self, chance: random.Random) -> Iterator[ReservationRequest]:
        stride = max(self.catalogue, self.movies) // self.movies
        while True:
            yield ReservationRequest(
                request_id=str(UUID(int=chance.getrandbits(128), version=4)),
                movie_id=_movie_id(stride * chance.randrange(self.movies)),
                time_slot_id=chance.randrange(self.time_slots),
                number_of_people=chance.randint(1, PEOPLE_MAX),
            )


HOT: Final = Workload("hot")
SPREAD: Final = Workload("spread", movies=1_000)
SOLD_OUT: Final = Workload("sold out", time_slots=1, sold_out=True)
DUPLICATES: Final = Workload("duplicates", repeated=True)


def _movie_id(number: int) -> str:
    return f"movie-{number:06}"
