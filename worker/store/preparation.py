"""What MongoDB must have before the first batch: transactions, collections, the validator."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from typing import Final

from motor.motor_asyncio import AsyncIOMotorClient, AsyncIOMotorDatabase
from pymongo.errors import CollectionInvalid, OperationFailure

from worker.errors import StoreForbids, StoreUnusable
from worker.store.documents import MOVIE_VALIDATOR, Document
from worker.store.driver_failures import NAMESPACE_EXISTS, UNAUTHORIZED

log: Final = logging.getLogger(__name__)


async def require_transactions(client: AsyncIOMotorClient[Document]) -> None:
    """Raises StoreUnusable for a standalone mongod, which has no transactions."""
    hello = await client.admin.command("hello")
    if "setName" not in hello and hello.get("msg") != "isdbgrid":
        raise StoreUnusable(
            "MongoDB runs without a replica set, so it has no transactions: start mongod with "
            "--replSet rs0, run rs.initiate() once, and add ?replicaSet=rs0 to the URI"
        )


async def prepare_collections(
    database: AsyncIOMotorDatabase[Document], movies: str, ledger: str
) -> None:
    """Create both collections if they are missing, and add the validator to the movies.

    They must exist before the first commit, because two transactions at once cannot both create
    one. An existing validator stays as it is: it is not ours to replace or to loosen.
    Raises StoreForbids for a collection that is missing and may not be created.
    """
    found = await _collections(database, [movies, ledger])
    if ledger not in found:
        await _create(database, ledger, {})
    rule = {"validator": MOVIE_VALIDATOR, "validationLevel": "moderate"}
    if movies not in found:
        await _create(database, movies, rule)
        return
    options = found[movies]
    if options is None:
        log.info("this user may not see whether %s has the validator against overbooking", movies)
    elif not (existing := options.get("validator")):
        await _add_validator(database, movies, rule)
    elif existing != MOVIE_VALIDATOR:
        log.warning(
            "the collection %s has a validator of its own, so nothing keeps other writers from "
            "overbooking: add %s to that validator",
            movies,
            MOVIE_VALIDATOR,
        )


async def _collections(
    database: AsyncIOMotorDatabase[Document], names: Sequence[str]
) -> dict[str, Document | None]:
    """Which of these exist, with their options, or None if this user may not see the options."""
    wanted = {"name": {"$in": list(names)}}
    try:
        cursor = await database.list_collections(filter=wanted)
    except OperationFailure as failure:
        if failure.code != UNAUTHORIZED:
            raise
        # Without a privilege to list collections, a user may list the names of those that it has
        # any privilege on.
        reply = await database.command(
            {
                "listCollections": 1,
                "filter": wanted,
                "nameOnly": True,
                "authorizedCollections": True,
            }
        )
        listed = {entry["name"] for entry in reply["cursor"]["firstBatch"]}
        return dict.fromkeys(listed)
    return {entry["name"]: entry.get("options", {}) for entry in await cursor.to_list(None)}


async def _add_validator(
    database: AsyncIOMotorDatabase[Document], movies: str, rule: Document
) -> None:
    """Add the validator; a worker that may not do so only warns, as it guards against others."""
    command = {"collMod": movies, **rule}
    try:
        await database.command(command)
    except OperationFailure as failure:
        if failure.code != UNAUTHORIZED:
            raise
        log.warning(
            "this user may not add a validator to %s, so nothing keeps other writers from "
            "overbooking: grant collMod, or run in mongosh: db.runCommand(%s)",
            movies,
            json.dumps(command),
        )


async def _create(database: AsyncIOMotorDatabase[Document], name: str, options: Document) -> None:
    try:
        await database.create_collection(name, **options)
    except CollectionInvalid:
        pass  # Another worker, started at the same moment, was faster.
    except OperationFailure as failure:
        if failure.code == UNAUTHORIZED:
            command = json.dumps({"create": name, **options})
            raise StoreForbids(
                f"the collection {name} is missing and this user may not create it: grant "
                f"createCollection, or run in mongosh: db.runCommand({command})"
            ) from failure
        if failure.code != NAMESPACE_EXISTS:
            raise
