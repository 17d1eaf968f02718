"""The database as it is opened to read all of it: without preparation or deadline, in one session.

A scan may take long, so operations have no deadline here, unlike in the worker's own store. All
reads share one causally consistent session with read concern ``majority``: what was committed when
one of them was answered is seen by every later one, also on another member (a ``readPreference``
in the URI is honoured) and across an election. A snapshot would guarantee the same more simply, but
MongoDB keeps snapshots for five minutes only, and holds them in its cache.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

from bson.codec_options import CodecOptions, DatetimeConversion
from motor.motor_asyncio import (
    AsyncIOMotorClientSession,
    AsyncIOMotorCommandCursor,
    AsyncIOMotorCursor,
    AsyncIOMotorDatabase,
)
from pymongo import WriteConcern
from pymongo.errors import PyMongoError
from pymongo.read_concern import ReadConcern

from worker.store.abandoned import APP_NAME
from worker.store.client import client_of
from worker.store.documents import Document
from worker.store.driver_failures import translated_failures
from worker.store.store import LEDGER, MOVIES

SERVER_SELECTION_TIMEOUT_SECONDS: Final = 5
"""How long a command waits for a member to read from, unless the URI says otherwise."""

_CODEC: Final = CodecOptions[Document](
    tz_aware=True,
    # Anything may be stored, and an audit must be able to read it in order to report it.
    datetime_conversion=DatetimeConversion.DATETIME_AUTO,
    unicode_decode_error_handler="replace",
)


@dataclass(frozen=True, slots=True)
class Scan:
    """A database, and the session that every read of it belongs to."""

    database: AsyncIOMotorDatabase[Document]
    session: AsyncIOMotorClientSession


@asynccontextmanager
async def open_scan(uri: str, database: str) -> AsyncIterator[Scan]:
    """Open a database for reading; raises StoreUnusable, also for failures in the block."""
    client = client_of(uri, **_defaults_for(uri), appname=APP_NAME)
    try:
        with translated_failures():
            async with await client.start_session(causal_consistency=True) as session:
                found = client.get_database(
                    database,
                    codec_options=_CODEC,
                    read_concern=ReadConcern("majority"),
                    write_concern=WriteConcern("majority"),
                )
                try:
                    yield Scan(found, session)
                except asyncio.CancelledError:
                    # The thread of a running scan would keep the process from ending.
                    with suppress(PyMongoError):
                        await client.admin.command("killSessions", [session.session_id])
                    raise
    finally:
        client.close()


async def stored_documents(uri: str, database: str) -> tuple[list[Document], list[Document]]:
    """All movies and all ledger entries, majority-committed; raises StoreUnusable.

    They are held in memory, so this is meant for a database of the size of a demo or a test.
    """
    async with open_scan(uri, database) as scan:
        movies = await scan.database[MOVIES].find(session=scan.session).to_list(None)
        ledger = await scan.database[LEDGER].find(session=scan.session).to_list(None)
    return movies, ledger


async def batches(
    cursor: AsyncIOMotorCursor[Document] | AsyncIOMotorCommandCursor[Document], most: int
) -> AsyncGenerator[list[Document]]:
    """What a cursor finds, ``most`` documents at a time; raises StoreUnusable."""
    try:
        while True:
            with translated_failures():
                batch = await cursor.to_list(most)
            if not batch:
                return
            yield batch
    finally:
        await cursor.close()


def _defaults_for(uri: str) -> dict[str, Any]:
    name = "serverSelectionTimeoutMS"
    given = f"{name}=".lower() in uri.lower()
    return {} if given else {name: SERVER_SELECTION_TIMEOUT_SECONDS * 1000}
