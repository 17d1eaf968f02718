"""Reading both collections as they are stored, for whoever checks the worker from outside."""

from __future__ import annotations

from pymongo.read_concern import ReadConcern

from worker.store.client import client_of
from worker.store.documents import Document
from worker.store.driver_failures import translated_failures
from worker.store.store import LEDGER, MOVIES


async def stored_documents(uri: str, database: str) -> tuple[list[Document], list[Document]]:
    """All movies and all ledger entries, majority-committed; raises StoreUnusable.

    Held in memory as a whole, so meant for the size of a demo or a test.
    """
    with translated_failures():
        client = client_of(uri, tz_aware=True)
        try:
            found = client.get_database(database, read_concern=ReadConcern("majority"))
            movies = await found[MOVIES].find().to_list(None)
            ledger = await found[LEDGER].find().to_list(None)
        finally:
            client.close()
    return movies, ledger
