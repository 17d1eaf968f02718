"""What the store checks and creates when it is opened: transactions, collections, validator."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import WriteError

from tests.conftest import Servers
from tests.unit.values import NOW, ask
from worker.devtools.servers import programs
from worker.errors import StoreUnusable
from worker.rules.decision import decide
from worker.store.store import Store, _defaults_for

Document = dict[str, Any]
Database = AsyncDatabase[Document]

FULL = {"id": 1, "capacity": 10, "bookedCount": 10}
OVERBOOKED = {"id": 1, "capacity": 10, "bookedCount": 11}


async def opened(servers: Servers, database: Database) -> None:
    await (await Store.open(servers.mongodb_uri, database.name)).close()


async def options(database: Database) -> Document:
    (found,) = await (await database.list_collections(filter={"name": "movies"})).to_list()
    return dict(found["options"])


@pytest.mark.parametrize(
    "bad",
    [OVERBOOKED, {**FULL, "bookedCount": -1}, {"id": 1, "bookedCount": 1}],
    ids=["overbooked", "negative", "no capacity"],
)
async def test_no_writer_may_store_a_movie_that_is_overbooked(
    store: Store, database: Database, bad: Document
) -> None:
    assert store
    with pytest.raises(WriteError, match="validation"):
        await database.movies.insert_one({"timeSlots": [FULL, bad]})
    await database.movies.insert_one({"_id": "heat", "timeSlots": [FULL]})
    with pytest.raises(WriteError, match="validation"):
        await database.movies.update_one({"_id": "heat"}, {"$set": {"timeSlots": [bad]}})


@pytest.mark.parametrize(
    "good",
    [{}, {"timeSlots": []}, {"timeSlots": [{"id": 1, "capacity": 0}]}, {"timeSlots": [FULL]}],
)
async def test_every_other_movie_may_be_stored(
    store: Store, database: Database, good: Document
) -> None:
    assert store
    await database.movies.insert_one(good)


async def test_an_existing_collection_gets_the_validator(
    servers: Servers, database: Database
) -> None:
    await database.movies.insert_one({"_id": "bad", "timeSlots": [OVERBOOKED], "n": 1})
    await opened(servers, database)
    with pytest.raises(WriteError, match="validation"):
        await database.movies.insert_one({"timeSlots": [OVERBOOKED]})
    await database.movies.update_one({"_id": "bad"}, {"$inc": {"n": 1}})
    assert await database.movies.find_one() == {"_id": "bad", "timeSlots": [OVERBOOKED], "n": 2}


async def test_a_slot_overbooked_before_does_not_block_the_others(
    servers: Servers, database: Database
) -> None:
    other = {"id": 2, "capacity": 5, "bookedCount": 0}
    await database.movies.insert_one({"_id": "heat", "timeSlots": [OVERBOOKED, other]})
    store = await Store.open(servers.mongodb_uri, database.name)
    snapshot = await store.read(["heat"], [])
    decided = decide([ask("a", slot=2), ask("b")], snapshot, NOW)
    await store.commit(decided.bookings, decided.outcomes)
    recorded = await store.outcomes(["a", "b"])
    assert (recorded["a"].outcome, recorded["b"].reason) == ("confirmed", "sold_out")
    await store.close()


async def test_a_validator_of_others_stays_and_is_warned_about(
    servers: Servers, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    theirs = {"$jsonSchema": {"required": ["title"]}}
    await database.create_collection("movies", validator=theirs, validationLevel="strict")
    before = await options(database)
    with caplog.at_level(logging.WARNING):
        await opened(servers, database)
    assert await options(database) == before
    assert "validator of its own" in caplog.text


async def test_opening_again_changes_nothing_and_does_not_warn(
    servers: Servers, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    await opened(servers, database)
    before = await options(database)
    with caplog.at_level(logging.WARNING):
        await opened(servers, database)
    assert await options(database) == before
    assert caplog.text == ""


async def test_workers_may_start_at_once_on_an_empty_database(
    servers: Servers, database: Database
) -> None:
    await asyncio.gather(*(opened(servers, database) for _ in range(6)))
    assert set(await database.list_collection_names()) == {"movies", "reservations"}
    assert (await options(database))["validationLevel"] == "moderate"


async def test_workers_may_start_at_once_and_add_the_validator(
    servers: Servers, database: Database
) -> None:
    await database.movies.insert_one({"_id": "heat"})
    await asyncio.gather(*(opened(servers, database) for _ in range(6)))
    assert "validator" in await options(database)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


@pytest.fixture
async def standalone_mongod(tmp_path: Path) -> AsyncIterator[str]:
    """The URI of a mongod without a replica set."""
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        *(str(programs.mongod()), "--port", str(port), "--dbpath", str(tmp_path)),
        *("--bind_ip", "127.0.0.1", "--nounixsocket"),
        stdout=asyncio.subprocess.DEVNULL,
    )
    uri = f"mongodb://127.0.0.1:{port}/"
    async with AsyncMongoClient[Document](uri) as client:
        await client.admin.command("ping")
    yield uri
    process.terminate()
    await process.wait()


async def test_a_standalone_mongod_is_refused_with_instructions(
    standalone_mongod: str,
) -> None:
    with pytest.raises(StoreUnusable) as unusable:
        await Store.open(standalone_mongod, "reservations")
    assert "replSet" in str(unusable.value)
    assert unusable.value.exit_code == 4


@pytest.mark.parametrize(
    "uri",
    [
        "mongodb://127.0.0.1:1/?timeoutMS=200",
        "mongodb://127.0.0.1:99999/",
        "mongodb://127.0.0.1:port/",
        "mongodb://user:pass:word@127.0.0.1/",
        "mongodb+srv://no.such.cluster.invalid/",
        "mongodb://127.0.0.1:1/?tls=true&tlsCAFile=/no/such/file",
        "mongodb://127.0.0.1:1/?tls=perhaps",
        "mongodb://127.0.0.1:1/?tlsCertificateAuthority=/no/such/file",
        'mongodb://127.0.0.1:1/a"b',
    ],
)
async def test_an_unusable_uri_is_an_unusable_store_and_no_crash(uri: str) -> None:
    with pytest.raises(StoreUnusable) as unusable:
        await asyncio.wait_for(Store.open(uri, "reservations"), 20)
    assert "pass:word" not in str(unusable.value)
    assert "\n" not in str(unusable.value)


async def test_an_option_unknown_to_the_driver_is_logged_and_ignored(
    servers: Servers, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    await (await Store.open(f"{servers.mongodb_uri}&nonsense=1", database.name)).close()
    assert "left out: Unknown option: nonsense" in caplog.text


@pytest.mark.parametrize(
    "option", ["connectTimeoutMS", "socketTimeoutMS", "wTimeoutMS", "serverSelectionTimeoutMS"]
)
def test_other_timeouts_in_the_uri_keep_the_operation_timeout(option: str) -> None:
    assert "timeoutMS" in _defaults_for(f"mongodb://localhost/?replicaSet=rs0&{option}=20000")


def test_a_timeout_for_operations_in_the_uri_is_kept() -> None:
    assert "timeoutMS" not in _defaults_for("mongodb://localhost/?timeoutMS=20000")
