"""Aborting the transactions of workers that died in the middle of one.

A killed process leaves its open transaction behind on the server, holding on to every movie and
ledger entry it wrote: for ``transactionLifetimeLimitSeconds``, 60 by default, everybody else loses
every race for them. A living worker's transaction is never idle for more than a round trip, so
one that is idle for ABANDONED_AFTER_SECONDS has lost its worker. Should that be wrong (a paused
process, say) nothing is lost: the aborted worker sees a conflict, and tries again.
"""

from __future__ import annotations

import logging
from typing import Final

from motor.motor_asyncio import AsyncIOMotorClient

from worker.store.documents import Document

log: Final = logging.getLogger(__name__)

APP_NAME: Final = "reservation-worker"
"""By which the server knows the transactions that are ours."""

ABANDONED_AFTER_SECONDS: Final = 2


async def abort_abandoned_transactions(client: AsyncIOMotorClient[Document]) -> None:
    """End what dead workers left open; a user needs no privilege for its own sessions."""
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
