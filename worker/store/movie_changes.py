"""Movies as an import writes them: from extended JSON, by bulk inserts and versioned updates.

Owns how a change of a movie becomes a write that cannot undo a booking. Knows neither files nor
lines, nor why a movie is new, changed or refused.
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
from worker.rules.snapshot import Movie
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

# What bson raises for values that do not fit their type in extended JSON or BSON.
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
    """New time slots and new capacities of existing ones, for a movie as it was read."""

    movie: Movie
    capacities: Mapping[int, int]
    new_time_slots: Mapping[int, Document]

    @property
    def movie_id(self) -> str:
        """The movie's id on the wire."""
        return str(self.movie.key)


@dataclass(frozen=True, slots=True)
class WriteFailures:
    """The movies that a bulk write did not write, by movie id.

    ``lost`` are those that another writer may have changed first: they must be read again to find
    out. ``refused`` are those that MongoDB will not store, with its error message.
    """

    lost: frozenset[str] = frozenset()
    refused: Mapping[str, str] = field(default_factory=dict)


class MovieWriter:
    """Writes to the collection of movies; never changes what is booked."""

    def __init__(self, movies: AsyncIOMotorCollection[Document]) -> None:
        self._movies = movies

    async def insert(self, documents: Sequence[Document]) -> WriteFailures:
        """Insert movies; one that exists by now is lost. Raises StoreUnusable."""
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

        MongoDB reports only how many movies matched, so if one did not, all count as lost.
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
    """The versioned update, which matches the movie only as it was read.

    It is a pipeline, because an ordinary update cannot add to an array and change its elements at
    once. It starts from what is stored when it is applied, so it cannot restore old bookings.
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
    """The expression for these time slots with new capacities, and otherwise unchanged."""
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
    """The failures by movie; raises the failure itself if it is not about single documents."""
    errors = failure.details["writeErrors"]
    if not errors:
        raise failure  # Such as too few members of the replica set.
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
    """The id on the wire of a movie with this ``_id``; None if no request can name it."""
    if isinstance(key, ObjectId):
        return str(key)
    return key if isinstance(key, str) and _MOVIE_ID.fullmatch(key) else None


def decode_extended_json(value: object, nesting: int = 0) -> object:
    """The values that extended JSON, such as ``{"$date": …}``, stands for.

    Values of other types are returned as they are. Raises BadInput that says what is wrong.
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
        raise BadInput(f"{one_line(value)} is not valid extended JSON: {fault}") from fault
    return result


def require_storable(document: Document) -> None:
    """Raises BadInput, which says why, for a document that MongoDB cannot store."""
    try:
        size = len(bson.encode(document))
    except _BAD_VALUES as fault:
        raise BadInput(f"MongoDB cannot store it: {one_line(fault)}") from fault
    if size > DOCUMENT_BYTES_MAX:
        raise BadInput(f"it has {size} bytes; MongoDB stores {DOCUMENT_BYTES_MAX} at most")


def one_line(text: object) -> str:
    """The text on one line, cut if it is long."""
    words = " ".join(str(text).split())
    return words if len(words) <= SHOWN_CHARACTERS_MAX else f"{words[:SHOWN_CHARACTERS_MAX]}…"
