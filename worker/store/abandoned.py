"""Aborts the transactions of workers that died in the middle of one.

A killed process leaves its transaction open on the server, where it keeps the movies and ledger
entries that it wrote locked: for ``transactionLifetimeLimitSeconds``, 60 by default, every other
worker conflicts with it. The transaction of a live worker is never idle for longer than a round
trip, so one that has been idle for ABANDONED_AFTER_SECONDS has lost its worker. If that is wrong
(a paused process, say), nothing is lost: the aborted worker sees a conflict and tries again.
"""

from __future__ import annotations

import logging
from typing import Final

from motor.motor_asyncio import AsyncIOMotorClient

from worker.store.documents import Document

log: Final = logging.getLogger(__name__)

APP_NAME: Final = "reservation-worker"
"""Identifies our transactions on the server."""

ABANDONED_AFTER_SECONDS: Final = 2


async def abort_abandoned_transactions(client: AsyncIOMotorClient[Document]) -> None:
    """Abort what dead workers left open; a user needs no privilege for its own sessions."""
    pipeline: list[Document] = [
        {"$currentOp": {"idleSessions": True}},
        {
            "$match": {
                "type": "idleSession",
                "appName": APP_NAME,
                "transaction.timeInactiveMicros": {"$gt": ABANDONED_AFTER_SECONDS * 1_000_000},
            }
        },
        {"$project": {"lsid": 1}},
    ]
    found = await client.admin.aggregate(pipeline).to_list(None)
    if found:
        await client.admin.command("killSessions", [{"id": idle["lsid"]["id"]} for idle in found])
        log.warning("aborted %d transactions that dead workers had left open", len(found))
