"""What the worker must be allowed to do in MongoDB, checked before the first batch.

Each privilege is tried, in a way that changes nothing, so that this module need not understand
what MongoDB grants by roles, by patterns, or because access control is off.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Awaitable, Callable
from typing import Final

from motor.motor_asyncio import AsyncIOMotorCollection
from pymongo.errors import OperationFailure

from worker.errors import StoreForbids
from worker.store.documents import Document
from worker.store.driver_failures import UNAUTHORIZED, VALIDATION_FAILURE

Collection = AsyncIOMotorCollection[Document]

NO_DOCUMENT: Final[Document] = {"_id": {"$in": []}}
"""A filter that matches no document, whatever its ``_id``."""


def least_role(database: str, movies: str, ledger: str) -> Document:
    """The smallest role that suffices, as ``createRole`` takes it; it cannot change the ledger."""
    actions = {movies: ["find", "update"], ledger: ["find", "insert"]}
    return {
        "role": "reservation-worker",
        "privileges": [
            {"resource": {"db": database, "collection": name}, "actions": allowed}
            for name, allowed in actions.items()
        ],
        "roles": [],
    }


async def require_privileges(movies: Collection, ledger: Collection) -> None:
    """Raises StoreForbids that names every missing privilege."""
    attempts: list[tuple[str, Collection, Callable[[Collection], Awaitable[object]]]] = [
        ("find", movies, _find),
        ("update", movies, _update),
        ("find", ledger, _find),
        ("insert", ledger, _insert),
    ]
    missing = [
        f"{action} on {collection.full_name}"
        for action, collection, attempt in attempts
        if not await _is_allowed(attempt, collection)
    ]
    if missing:
        role = least_role(movies.database.name, movies.name, ledger.name)
        raise StoreForbids(
            f"this MongoDB user may not {', '.join(missing)}: give it a role, made in mongosh with "
            f'db.getSiblingDB("admin").createRole({json.dumps(role)})'
        )


async def require_majority(movies: Collection) -> None:
    """Wait until a majority has all earlier writes.

    Changes nothing: an update that matches no document is acknowledged only then.
    """
    await _update(movies)


async def _is_allowed(
    attempt: Callable[[Collection], Awaitable[object]], collection: Collection
) -> bool:
    try:
        await attempt(collection)
    except OperationFailure as failure:
        if failure.code == UNAUTHORIZED:
            return False
        # An election, a lock or a validator can fail the transaction, but only after the user
        # was found to have the privilege.
        transient = failure.has_error_label("TransientTransactionError")
        if not transient and failure.code != VALIDATION_FAILURE:
            raise
    return True


async def _find(collection: Collection) -> None:
    await collection.find_one(NO_DOCUMENT, {"_id": 1})


async def _update(collection: Collection) -> None:
    # Not update_one, which a sharded collection accepts only with an exact key.
    await collection.update_many(NO_DOCUMENT, {"$set": {"version": 0}})


async def _insert(collection: Collection) -> None:
    """In a transaction that is aborted, with an id that no request can have."""
    async with (
        await collection.database.client.start_session() as session,
        session.start_transaction(),
    ):
        await collection.insert_one({"_id": f"/{secrets.token_hex(8)}"}, session=session)
        await session.abort_transaction()
