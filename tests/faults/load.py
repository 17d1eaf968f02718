"""A load that wants seats: it asks at a steady pace, sometimes twice, and remembers everything."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from tests.acceptance.cinema import Cinema, request_for, slots
from tests.acceptance.client import Received
from tests.faults.clients import Publisher
from worker.devtools.auditor import Evidence, Finding, audit

Document = dict[str, Any]

CAPACITIES: Final = (2000, 300, 60, 0)
MOVIES: Final = 4
AT_ONCE: Final = 10
PAUSE_SECONDS: Final = 0.1
"""Some 90 new requests a second and 10 old ones: steady, and little beside what a worker can do,
so that whatever stands still was stopped by the fault and by nothing else."""
REPEATED: Final = 0.1


@dataclass
class Load:
    """People at the movies of one trial."""

    cinema: Cinema
    publisher: Publisher
    chance: random.Random
    movies: Sequence[str]
    before: dict[Any, Document]
    sent: list[Document] = field(default_factory=list)
    sent_again: int = 0
    batches: list[tuple[float, list[str]]] = field(default_factory=list)
    """When a publisher began to send which requests."""

    @classmethod
    async def at(cls, cinema: Cinema, publisher: Publisher, chance: random.Random) -> Load:
        movies = [await cinema.show(*slots(*CAPACITIES)) for _ in range(MOVIES)]
        before: dict[Any, Document] = {movie: await cinema.movie(movie) for movie in movies}
        return cls(cinema, publisher, chance, movies, before)

    @property
    def events(self) -> dict[str, list[Received]]:
        """What a subscriber got for the requests of this load."""
        received = self.cinema.client.events
        names = (request["requestId"] for request in self.sent)
        return {name: received[name] for name in names if name in received}

    @property
    def received_dead_letters(self) -> list[tuple[str, Received]]:
        """The dead letters with a request of this load, by its id."""
        ours = {request["requestId"] for request in self.sent}
        named = (
            (dead_letter.content["requestId"], dead_letter)
            for dead_letter in self.cinema.client.received_dead_letters
        )
        return [(name, dead_letter) for name, dead_letter in named if name in ours]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Ask for seats all the time, whatever happens."""
        over = asyncio.Event()
        asking = asyncio.create_task(self._ask_until(over))
        try:
            yield
        except BaseException:
            asking.cancel()
            raise
        finally:
            over.set()
            await asyncio.gather(asking, return_exceptions=asking.cancelling() > 0)

    async def _ask_until(self, over: asyncio.Event) -> None:
        while not over.is_set():
            new = [self._request() for _ in range(AT_ONCE)]
            again = [request for request in new if self.sent and self.chance.random() < REPEATED]
            again = [self.chance.choice(self.sent) for _ in again]
            self.batches.append((time.monotonic(), [request["requestId"] for request in new]))
            self.sent += new
            await self.publisher.publish([*new, *again])
            await asyncio.sleep(PAUSE_SECONDS)

    def _request(self) -> Document:
        slot, people = self.chance.randint(1, len(CAPACITIES)), self.chance.randint(1, 4)
        return request_for(self.chance.choice(self.movies), people, slot)

    async def first_outcome(self, since: float) -> float:
        """When the first outcome came of any request that was sent after ``since``."""
        while True:
            later = (names for sent, names in reversed(self.batches) if sent >= since)
            if any(name in self.cinema.client.events for names in later for name in names):
                return time.monotonic()
            await asyncio.sleep(0.01)

    def unanswered(self) -> list[Document]:
        """The requests with neither an outcome nor a dead letter."""
        events, dead_letters = (
            self.cinema.client.events,
            {name for name, _ in self.received_dead_letters},
        )
        return [
            request
            for request in self.sent
            if request["requestId"] not in events and request["requestId"] not in dead_letters
        ]

    async def send_again(self, requests: Sequence[Document]) -> None:
        """As a publisher does who hears nothing."""
        self.sent_again += len(requests)
        await self.publisher.publish(requests)

    async def findings(self, excused: Iterable[str] = ()) -> list[Finding]:
        """What the auditor has to say of all this, ``excused`` requests without outcome apart."""
        pardoned = set(excused)
        ledger = await self.cinema.ledger(request["requestId"] for request in self.sent)
        sent = [r for r in self.sent if r["requestId"] in ledger or r["requestId"] not in pardoned]
        return audit(
            Evidence(
                sent=sent,
                events=[event.body for found in self.events.values() for event in found],
                dead_letters=[
                    (str(dead_letter.error), dead_letter.body)
                    for name, dead_letter in self.received_dead_letters
                    if name not in pardoned
                ],
                ledger=list(ledger.values()),
                before=list(self.before.values()),
                after=[await self.cinema.movie(movie) for movie in self.movies],
            )
        )

    @property
    def outcomes(self) -> Counter[str]:
        return Counter(found[0].content["outcome"] for found in self.events.values())

    @property
    def duplicates(self) -> int:
        """Events beyond the first of their request."""
        return sum(len(found) - 1 for found in self.events.values())
