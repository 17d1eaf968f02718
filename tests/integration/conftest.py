"""Fixtures of the integration tests: real sessions and a real store, fresh for each test."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase

from tests.acceptance.client import Client, wipe
from tests.conftest import Servers
from worker.broker.session import Session
from worker.store.store import Store


@pytest.fixture
async def client(servers: Servers) -> AsyncIterator[Client]:
    """A client of a broker that has just been emptied."""
    await wipe(servers.amqp_url)
    opened = await Client.open(servers.amqp_url)
    yield opened
    await opened.close()


Opening = Callable[[], Awaitable[Session]]


@pytest.fixture
async def open_session(servers: Servers, client: Client) -> AsyncIterator[Opening]:
    """Opens sessions, and closes them at the end."""
    opened: list[Session] = []

    async def opening() -> Session:
        assert client
        opened.append(await Session.open(servers.amqp_url, 1000, slow_start=False))
        return opened[-1]

    yield opening
    for session in opened:
        await session.close()


@pytest.fixture
async def session(open_session: Opening) -> Session:
    return await open_session()


@pytest.fixture(scope="session")
async def mongo(servers: Servers) -> AsyncIterator[AsyncMongoClient[dict[str, Any]]]:
    """A MongoDB client apart from the worker's own."""
    async with AsyncMongoClient[dict[str, Any]](servers.mongodb_uri, tz_aware=True) as client:
        yield client


@pytest.fixture
async def database(
    mongo: AsyncMongoClient[dict[str, Any]],
) -> AsyncIterator[AsyncDatabase[dict[str, Any]]]:
    """An empty database for one test."""
    fresh = mongo.get_database(f"test-{secrets.token_hex(6)}")
    yield fresh
    await mongo.drop_database(fresh)


@pytest.fixture
async def store(servers: Servers, database: AsyncDatabase[dict[str, Any]]) -> AsyncIterator[Store]:
    """The worker's store on that database."""
    opened = await Store.open(servers.mongodb_uri, database.name)
    yield opened
    await opened.close()
