"""The movies as an import writes them: extended JSON in, bulk inserts, versioned changes.

Owns how a change of the catalogue becomes a write that cannot undo a booking. Knows neither files
nor lines, and not why a movie is new, changed or refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import bson
from bson import ObjectId
from bson.codec_options import DatetimeConversion
from bson.errors import BSONError
from bson.json_util import JSONOptions, object_hook
from motor.motor_asyncio import AsyncIOMotorCollection
from pymongo import UpdateOne
from pymongo.errors import BulkWriteError

from worker.errors import BadInput
from worker.rules.decision import Movie
from worker.store.documents import Document, as_read, unchanged_time_slot
from worker.store.driver_failures import DUPLICATE_KEY, WRITE_CONFLICT, translated_failures

DOCUMENT_BYTES_MAX: Final = 16 * 1024 * 1024
NESTING_MAX: Final = 100
"""Both from MongoDB's manual, "MongoDB Limits and Thresholds"."""

SHOWN_CHARACTERS_MAX: Final = 80

_MOVIE_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")

# Dates that Python's datetime cannot hold are kept as the milliseconds that MongoDB stores.
_EXTENDED_JSON: Final = JSONOptions(
    tz_aware=True, datetime_conversion=DatetimeConversion.DATETIME_AUTO
)

# What bson raises for values that are not what their extended JSON or BSON type takes.
_BAD_VALUES: Final = (
    BSONError,
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)


@dataclass(frozen=True, slots=True)
class MovieChange:
    """New time slots, and other capacities for time slots that are there, of a movie as read."""

    movie: Movie
    capacities: Mapping[int, int]
    new_time_slots: Mapping[int, Document]

    @property
    def movie_id(self) -> str:
        """The movie's name on the wire."""
        return str(self.movie.key)


@dataclass(frozen=True, slots=True)
class WriteFailures:
    """What did not become of a bulk write, by movie id.

    ``lost`` are those that another writer may have been faster with: only reading them again
    tells. ``refused`` holds MongoDB's own words for those that it will not store.
    """

    lost: frozenset[str] = frozenset()
    refused: Mapping[str, str] = field(default_factory=dict)


class MovieWriter:
    """The collection of movies, for those who change what is on sale and never what is booked."""

    def __init__(self, movies: AsyncIOMotorCollection[Document]) -> None:
        self._movies = movies

    async def insert(self, documents: Sequence[Document]) -> WriteFailures:
        """Insert movies; one that exists meanwhile is lost. Raises StoreUnusable."""
        if not documents:
            return WriteFailures()
        with translated_failures():
            try:
                await self._movies.insert_many(documents, ordered=False)
            except BulkWriteError as failure:
                return _write_failures([str(document["_id"]) for document in documents], failure)
        return WriteFailures()

    async def change(self, changes: Sequence[MovieChange]) -> WriteFailures:
        """Apply changes to movies that are still as they were read; raises StoreUnusable.

        MongoDB tells only how many it found, so one lost race makes all of them lost.
        """
        if not changes:
            return WriteFailures()
        movie_ids = [change.movie_id for change in changes]
        updates = [change_update(change) for change in changes]
        refused: Mapping[str, str] = {}
        with translated_failures():
            try:
                matched = (await self._movies.bulk_write(updates, ordered=False)).matched_count
            except BulkWriteError as failure:
                refused = _write_failures(movie_ids, failure).refused
                matched = failure.details["nMatched"]
        if matched + len(refused) == len(changes):
            return WriteFailures(refused=refused)
        return WriteFailures(lost=frozenset(movie_ids) - refused.keys(), refused=refused)


def change_update(change: MovieChange) -> UpdateOne:
    """The versioned update: matches only the movie exactly as the change was decided upon.

    A pipeline, because an ordinary update cannot add to an array and change elements of it at
    once. It starts from what is stored when it is applied, so it cannot bring back old bookings.
    """
    guards = [unchanged_time_slot(change.movie, slot_id) for slot_id in change.capacities]
    guards.append({"timeSlots.id": {"$nin": list(change.new_time_slots)}})
    stored = {"$ifNull": ["$timeSlots", []]}
    added = {"$literal": list(change.new_time_slots.values())}
    return UpdateOne(
        {"_id": change.movie.key, "version": as_read(change.movie.version), "$and": guards},
        [
            {
                "$set": {
                    "version": {"$add": [{"$ifNull": ["$version", 0]}, 1]},
                    "timeSlots": {
                        "$concatArrays": [_with_capacities(stored, change.capacities), added]
                    },
                }
            }
        ],
    )


def _with_capacities(time_slots: Document, capacities: Mapping[int, int]) -> Document:
    """The expression for these time slots with other capacities, and all else as it is."""
    if not capacities:
        return time_slots
    capacity = {"$arrayElemAt": [list(capacities.values()), "$$at"]}
    changed = {"$mergeObjects": ["$$slot", {"capacity": capacity}]}
    chosen = {
        "$let": {
            "vars": {"at": {"$indexOfArray": [list(capacities), "$$slot.id"]}},
            "in": {"$cond": [{"$gte": ["$$at", 0]}, changed, "$$slot"]},
        }
    }
    return {"$map": {"input": time_slots, "as": "slot", "in": chosen}}


def _write_failures(movie_ids: Sequence[str], failure: BulkWriteError) -> WriteFailures:
    """An error that MongoDB gives for one document of many is that document's own."""
    errors = failure.details["writeErrors"]
    if not errors:
        raise failure  # It is about the whole, such as too few members of the replica set.
    lost = set()
    refused = {}
    for error in errors:
        movie_id = movie_ids[error["index"]]
        if error["code"] in {DUPLICATE_KEY, WRITE_CONFLICT}:
            lost.add(movie_id)
        else:
            refused[movie_id] = f"MongoDB refuses it with error {error['code']}: {error['errmsg']}"
    return WriteFailures(frozenset(lost), refused)


def movie_id_of(key: object) -> str | None:
    """The name on the wire of a movie with this ``_id``; None if requests cannot name it."""
    if isinstance(key, ObjectId):
        return str(key)
    return key if isinstance(key, str) and _MOVIE_ID.fullmatch(key) else None


def decode_extended_json(value: object, nesting: int = 0) -> object:
    """Extended JSON as the values that it stands for, such as ``{"$date": …}``.

    Values that are no JSON stay as they are. Raises BadInput, saying what is not as it should be.
    """
    if nesting > NESTING_MAX:
        raise BadInput(f"it is nested more than {NESTING_MAX} levels deep; MongoDB stores no more")
    if isinstance(value, list | tuple):
        return [decode_extended_json(element, nesting + 1) for element in value]
    if not isinstance(value, Mapping):
        return value
    members = {name: decode_extended_json(member, nesting + 1) for name, member in value.items()}
    try:
        result: object = object_hook(members, _EXTENDED_JSON)
    except _BAD_VALUES as fault:
        raise BadInput(f"{one_line(value)} is not good extended JSON: {fault}") from fault
    return result


def require_storable(document: Document) -> None:
    """Raises BadInput, saying why, for a document that MongoDB cannot store."""
    try:
        size = len(bson.encode(document))
    except _BAD_VALUES as fault:
        raise BadInput(f"MongoDB cannot store it: {one_line(fault)}") from fault
    if size > DOCUMENT_BYTES_MAX:
        raise BadInput(f"it has {size} bytes; MongoDB stores {DOCUMENT_BYTES_MAX} at the most")


def one_line(text: object) -> str:
    """The text, or its beginning, so that a problem with a long value is still one line."""
    words = " ".join(str(text).split())
    return words if len(words) <= SHOWN_CHARACTERS_MAX else f"{words[:SHOWN_CHARACTERS_MAX]}…"
