"""All that a test of the whole needs: a client, a database of its own, and worker processes."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase

from tests.acceptance.client import Client, wipe
from tests.acceptance.processes import READY, WorkerProcess

Document = dict[str, Any]


def slots(*capacities: int, booked: int = 0) -> list[Document]:
    """Time slots 1, 2, 3 … with these capacities."""
    return [
        {"id": number, "capacity": capacity, "bookedCount": booked}
        for number, capacity in enumerate(capacities, start=1)
    ]


def request_for(
    movie_id: object, people: object = 1, slot: object = 1, *, request_id: object = None
) -> Document:
    """A request with an id of its own."""
    return {
        "requestId": request_id or secrets.token_hex(8),
        "movieId": movie_id,
        "timeSlotId": slot,
        "numberOfPeople": people,
    }


@dataclass
class Cinema:
    """One database, one client, any number of workers."""

    amqp_url: str
    mongodb_uri: str
    database: AsyncDatabase[Document]
    client: Client
    workers: list[WorkerProcess] = field(default_factory=list)

    async def start_worker(self, **settings: str) -> WorkerProcess:
        """A worker that is ready, on this database unless the settings say otherwise."""
        worker = await self.launch(**settings)
        await worker.logged(READY)
        return worker

    async def start_workers(self, number: int, **settings: str) -> list[WorkerProcess]:
        return list(await asyncio.gather(*(self.start_worker(**settings) for _ in range(number))))

    async def launch(self, **settings: str) -> WorkerProcess:
        """A worker that may still be starting, or never will have started."""
        own = {
            "AMQP_URL": self.amqp_url,
            "MONGODB_URI": self.mongodb_uri,
            "MONGODB_DATABASE": self.database.name,
        }
        worker = await WorkerProcess.start({**own, **settings})
        self.workers.append(worker)
        return worker

    async def show(self, *time_slots: Document, movie_id: str | None = None) -> str:
        """A new movie with these time slots; its id."""
        name = movie_id or f"movie-{secrets.token_hex(6)}"
        await self.database.movies.insert_one(
            {"_id": name, "version": 0, "timeSlots": list(time_slots)}
        )
        return name

    async def movie(self, movie_id: object) -> Document:
        found = await self.database.movies.find_one({"_id": movie_id})
        assert found is not None
        return found

    async def ledger(self, request_ids: Iterable[str] | None = None) -> dict[str, Document]:
        wanted: Mapping[str, Any] = (
            {} if request_ids is None else {"_id": {"$in": list(request_ids)}}
        )
        return {entry["_id"]: entry async for entry in self.database.reservations.find(wanted)}

    async def stop_workers(self) -> None:
        """Stop those that still run; each must end cleanly."""
        running = [worker for worker in self.workers if worker.process.returncode is None]
        for worker in running:
            await worker.logged(READY)
        for worker, code in zip(
            running, await asyncio.gather(*(worker.stop() for worker in running)), strict=True
        ):
            assert code == 0, worker.log


@asynccontextmanager
async def open_cinema(amqp_url: str, mongodb_uri: str) -> AsyncIterator[Cinema]:
    """An empty broker and an empty database, and at the end no worker left running."""
    await wipe(amqp_url)
    mongo: AsyncMongoClient[Document] = AsyncMongoClient(mongodb_uri, tz_aware=True)
    database = mongo.get_database(f"test-{secrets.token_hex(6)}")
    cinema = Cinema(amqp_url, mongodb_uri, database, await Client.open(amqp_url))
    try:
        yield cinema
        await cinema.stop_workers()
    finally:
        for worker in cinema.workers:
            await worker.kill()
        await cinema.client.close()
        await mongo.drop_database(database)
        await mongo.close()
