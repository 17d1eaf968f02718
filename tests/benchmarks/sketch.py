"""The sketch that the project grew from, one request per round trip, with its defects fixed.

It compares the requested slot's own numbers, requires room for all the people, treats a command
that matched nothing as a lost race, and reads the ledger before it books. It still lacks a
transaction: a crash between booking and ledger entry loses seats. That makes it faster than a
correct one would be, which is a fair bias in a reference.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import ReturnDocument, WriteConcern
from pymongo.errors import DuplicateKeyError
from pymongo.read_concern import ReadConcern
from tenacity import AsyncRetrying, retry_if_exception_type, wait_random_exponential

from tests.benchmarks.events import outcome

FIRST_WAIT_SECONDS: Final = 0.01
LONGEST_WAIT_SECONDS: Final = 0.5
"""The bounds of the wait after a lost race, the same as the worker's."""

Document = dict[str, Any]


class LostRace(Exception):
    """The movie's version has changed since it was read."""


class Sketch:
    """Reads, decides and writes for one request at a time; many may be in flight at once."""

    def __init__(self, uri: str, database: str) -> None:
        client: AsyncIOMotorClient[Document] = AsyncIOMotorClient(uri, tz_aware=True)
        found = client.get_database(
            database, read_concern=ReadConcern("majority"), write_concern=WriteConcern("majority")
        )
        self._movies = found["movies"]
        self._ledger = found["reservations"]
        self.commits = 0
        self.conflicts = 0
        self._retrying = AsyncRetrying(
            retry=retry_if_exception_type(LostRace),
            wait=wait_random_exponential(FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS),
        )

    async def reserve(self, request: Document) -> Document:
        """The outcome of a request, recorded in the ledger."""
        event: Document = await self._retrying.copy()(self._attempt, request)
        return event

    async def _attempt(self, request: Document) -> Document:
        if entry := await self._ledger.find_one({"_id": request["requestId"]}):
            return _replayed(entry)
        movie = await self._movies.find_one(
            {"_id": request["movieId"]}, {"version": 1, "timeSlots": 1}
        )
        assert movie is not None, "no workload asks for an unknown movie"
        version, seats = movie["version"], _seats(movie, request)
        people = request["numberOfPeople"]
        reason = None
        if people > seats:
            reason = "sold_out"
        else:
            await self._book(request, version)
            version, seats = version + 1, seats - people
        now = datetime.now(UTC)
        event = outcome(
            request, reason, movie_version=version, seats_available=seats, decided_at=now
        )
        return await self._record(event, now)

    async def _book(self, request: Document, version: int) -> None:
        people = request["numberOfPeople"]
        room = {"$filter": {"input": "$timeSlots", "as": "slot", "cond": _has_room(request)}}
        booked = await self._movies.find_one_and_update(
            {
                "_id": request["movieId"],
                "version": version,
                "$expr": {"$gt": [{"$size": room}, 0]},
            },
            {"$inc": {"version": 1, "timeSlots.$[slot].bookedCount": people}},
            array_filters=[{"slot.id": request["timeSlotId"]}],
            projection={"version": 1},
            return_document=ReturnDocument.AFTER,
        )
        if not booked:
            self.conflicts += 1
            raise LostRace

    async def _record(self, event: Document, now: datetime) -> Document:
        entry = {**event, "_id": event["requestId"], "decidedAt": now}
        del entry["requestId"]
        try:
            await self._ledger.insert_one(entry)
        except DuplicateKeyError:
            self.conflicts += 1
            if event["outcome"] == "confirmed":
                await self._give_back(event)
            found = await self._ledger.find_one({"_id": event["requestId"]})
            assert found is not None
            return _replayed(found)
        self.commits += 1
        return event

    async def _give_back(self, event: Document) -> None:
        """Return seats: the same request was booked twice, and the other has the ledger entry."""
        await self._movies.update_one(
            {"_id": event["movieId"]},
            {"$inc": {"version": 1, "timeSlots.$[slot].bookedCount": -event["numberOfPeople"]}},
            array_filters=[{"slot.id": event["timeSlotId"]}],
        )


def _has_room(request: Document) -> Document:
    taken = {"$add": ["$$slot.bookedCount", request["numberOfPeople"]]}
    return {
        "$and": [
            {"$eq": ["$$slot.id", request["timeSlotId"]]},
            {"$lte": [taken, "$$slot.capacity"]},
        ]
    }


def _seats(movie: Document, request: Document) -> int:
    slot = next(slot for slot in movie["timeSlots"] if slot["id"] == request["timeSlotId"])
    return int(slot["capacity"] - slot["bookedCount"])


def _replayed(entry: Document) -> Document:
    request = {**entry, "requestId": entry["_id"]}
    return outcome(
        request,
        entry.get("reason"),
        movie_version=entry["movieVersion"],
        seats_available=entry["seatsAvailable"],
        decided_at=entry["decidedAt"],
    )
