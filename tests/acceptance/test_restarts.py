"""Workers that are killed and servers that go away, under load; then everything is audited.

The last tests of all: they stop the servers that the others share.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import aio_pika.exceptions
import pytest

from tests.acceptance.cinema import Cinema, request_for, slots
from tests.acceptance.client import REQUESTS
from tests.acceptance.processes import READY
from tests.conftest import Servers
from worker.devtools.auditor import Evidence, Finding, audit

SEED: Final = 20261122
KILLS: Final = 20
REQUESTS_IN_ALL: Final = 5000
OUTAGE_SECONDS: Final = 10
BACK_AT_WORK_SECONDS: Final = 15
"""After the return of a server; the longest that the acceptance allows."""

BROKEN: Final = (*aio_pika.exceptions.CONNECTION_EXCEPTIONS, TimeoutError)


@dataclass
class Rush:
    """A load at a few movies: most get seats, many do not, some ask twice."""

    cinema: Cinema
    movies: Sequence[str]
    before: dict[str, dict[str, Any]]
    sent: list[dict[str, Any]] = field(default_factory=list)
    dice: random.Random = field(default_factory=lambda: random.Random(SEED))

    @classmethod
    async def at(cls, cinema: Cinema) -> Rush:
        movies = [await cinema.show(*slots(900, 500, 60, 0)) for _ in range(4)]
        return cls(cinema, movies, {movie: await cinema.movie(movie) for movie in movies})

    async def send(self, number: int) -> list[dict[str, Any]]:
        """So many requests, one in ten of them for the second time."""
        new = [self._request() for _ in range(number)]
        again = self.dice.sample(self.sent, min(len(self.sent), number // 10))
        self.sent += new
        mixed = self.dice.sample([*new, *again], len(new) + len(again))
        await self._publish(mixed)
        return new

    def _request(self) -> dict[str, Any]:
        slot, people = self.dice.randint(1, 4), self.dice.randint(1, 4)
        return request_for(self.dice.choice(self.movies), people, slot)

    async def _publish(self, requests: list[dict[str, Any]]) -> None:
        """Until the broker has them all; some then twice, which must make no difference."""
        while True:
            try:
                await self.cinema.client.publish_all(requests)
            except BROKEN:
                await self._reconnect()
            else:
                return

    async def _reconnect(self) -> None:
        await self.cinema.client.close()
        while True:
            try:
                await self.cinema.client.connect(durable=True)
            except BROKEN:
                await asyncio.sleep(0.1)
            else:
                return

    async def audit(self) -> list[Finding]:
        """Wait for every outcome, stop the workers, and look at everything."""
        client = self.cinema.client
        await client.outcomes([request["requestId"] for request in self.sent], seconds=60)
        await self.cinema.stop_workers()
        evidence = Evidence(
            sent=self.sent,
            events=[event.body for found in client.events.values() for event in found],
            dead_letters=[
                (str(dead_letter.error), dead_letter.body)
                for dead_letter in client.received_dead_letters
            ],
            ledger=list((await self.cinema.ledger()).values()),
            before=list(self.before.values()),
            after=[await self.cinema.movie(movie) for movie in self.movies],
            left_in_queue=await client.depth(REQUESTS),
        )
        return audit(evidence)


@pytest.fixture
async def rush(cinema: Cinema) -> Rush:
    """A rush whose subscription outlives a restart of the broker."""
    await cinema.client.close()
    await cinema.client.connect(durable=True)
    return await Rush.at(cinema)


async def test_workers_killed_at_any_moment_lose_nothing(
    rush: Rush,
) -> None:
    cinema, events = rush.cinema, rush.cinema.client.events
    await cinema.start_workers(3, BATCH_SIZE="20")
    for _ in range(KILLS):
        victim = rush.dice.choice([worker for worker in cinema.workers if not worker.killed])
        await victim.logged(READY)
        wanted = len(events) + rush.dice.randint(1, REQUESTS_IN_ALL // KILLS)
        await rush.send(REQUESTS_IN_ALL // KILLS)
        await cinema.client.events_of(wanted)
        # The moment itself is what must not matter, so it is the one thing left to chance.
        await asyncio.sleep(rush.dice.uniform(0, 0.02))
        await victim.kill()
        await cinema.launch(BATCH_SIZE="20")
    assert await rush.audit() == [], f"seed {SEED}"


@asynccontextmanager
async def under_load(rush: Rush) -> AsyncIterator[None]:
    """Send all the time, whatever happens."""

    async def send_all_the_time() -> None:
        while not over.is_set():
            await rush.send(25)
            await asyncio.sleep(0.1)

    over = asyncio.Event()
    sending = asyncio.create_task(send_all_the_time())
    await rush.cinema.client.events_of(100)
    yield
    over.set()
    await sending


async def back_at_work(rush: Rush) -> None:
    """Wait for the outcome of a request that is sent from now on."""
    async with asyncio.timeout(BACK_AT_WORK_SECONDS):
        new = await rush.send(1)
        await rush.cinema.client.outcomes([new[0]["requestId"]])


async def test_mongodb_away_for_ten_seconds_under_load_loses_nothing(
    rush: Rush, servers: Servers
) -> None:
    if servers.embedded is None:
        pytest.skip("the servers are not ours to stop")
    await rush.cinema.start_workers(2)
    async with under_load(rush):
        await servers.embedded.mongo.stop()
        await asyncio.sleep(OUTAGE_SECONDS)
        await servers.embedded.mongo.start()
        await back_at_work(rush)
    assert await rush.audit() == [], f"seed {SEED}"


async def test_rabbitmq_away_for_ten_seconds_under_load_loses_nothing(
    rush: Rush, servers: Servers
) -> None:
    if servers.embedded is None:
        pytest.skip("the servers are not ours to stop")
    await rush.cinema.start_workers(2)
    async with under_load(rush):
        await servers.embedded.rabbit.stop()
        await asyncio.sleep(OUTAGE_SECONDS)
        await servers.embedded.rabbit.start()
        await back_at_work(rush)
    assert await rush.audit() == [], f"seed {SEED}"
