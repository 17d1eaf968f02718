"""The users of the secured servers, each with some permission less; and how a worker is refused."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import aio_pika
from pymongo import AsyncMongoClient

from tests.acceptance.cinema import Cinema
from tests.acceptance.client import Client, wipe
from tests.acceptance.commands import Ended, run_command
from tests.acceptance.secured_servers import (
    DATABASE,
    PASSWORD,
    WORKER_PASSWORD,
    Permissions,
    SecuredServers,
    secured_servers,
)
from worker.broker.permissions import GRANT
from worker.broker.topology import declare_topology
from worker.store.privileges import least_role

Document = dict[str, Any]

CONFIGURE, WRITE, READ = shlex.split(GRANT)[-3:]
USERS: Final[Mapping[str, Permissions]] = {
    "service": (CONFIGURE, WRITE, READ),
    "silent": (CONFIGURE, WRITE.replace(r"amq\.default|", ""), READ),
    "no-events": (CONFIGURE, r"^reservations\.dead-letters$", READ),
    "no-dead-letters": (CONFIGURE, r"^reservations\.events$", READ),
    "no-writer": (CONFIGURE, "^$", READ),
    "no-reader": (CONFIGURE, WRITE, "^$"),
    "founder": (r"^reservations\.(events|requests)$", ".*", ".*"),
}
PRIVILEGES: Final[list[Document]] = least_role(DATABASE, "movies", "reservations")["privileges"]
SECRETS: Final = (PASSWORD, WORKER_PASSWORD, "dich", "w%rd", "w%25rd")


@asynccontextmanager
async def open_secured_servers() -> AsyncIterator[SecuredServers]:
    """Both servers, with a user `service` that has just the permissions and the role it needs."""
    async with secured_servers(USERS) as built:
        await built.grant_role("service", PRIVILEGES)
        yield built


@asynccontextmanager
async def open_secured_cinema(secured: SecuredServers) -> AsyncIterator[Cinema]:
    """The topology and the collections as an administrator has made them, and the service."""
    await wipe(secured.amqp_url())
    async with await aio_pika.connect(secured.amqp_url()) as connection:
        await declare_topology(connection)
    client = await Client.open(secured.amqp_url())
    mongo: AsyncMongoClient[Document] = AsyncMongoClient(secured.mongodb_uri(), tz_aware=True)
    await mongo.drop_database(DATABASE)
    database = mongo[DATABASE]
    for name in ("movies", "reservations"):
        await database.create_collection(name)
    opened = Cinema(
        secured.amqp_url("service", WORKER_PASSWORD),
        secured.mongodb_uri("service", WORKER_PASSWORD),
        database,
        client,
    )
    yield opened
    for worker in opened.workers:
        await worker.kill()
    await client.close()
    await mongo.close()


async def ended(cinema: Cinema, code: int, **settings: str) -> str:
    """The one line of a worker that could not start, which holds no secret."""
    own = {"AMQP_URL": cinema.amqp_url, "MONGODB_URI": f"{cinema.mongodb_uri}&timeoutMS=3000"}
    worker = await run_command({**own, "LOG_LEVEL": "ERROR", **settings}, "run")
    require_secrecy(worker)
    assert worker.code == code, worker.errors
    assert worker.errors.count("\n") == 1, worker.errors
    return worker.last_line


def require_secrecy(command: Ended) -> None:
    assert not [secret for secret in SECRETS if secret in command.everything], command.everything


def shown(function: str, text: str) -> Document:
    """The argument of a call that a person is told to make."""
    found = re.search(rf"{re.escape(function)}\((.*)\)", text)
    assert found is not None, text
    argument = json.loads(found[1])
    assert isinstance(argument, dict)
    return argument
