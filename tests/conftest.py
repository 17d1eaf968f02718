"""What all tests share: the servers, how hypothesis looks for examples, and the order."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import settings

from tests.acceptance.cinema import Cinema, open_cinema

if TYPE_CHECKING:
    from worker.devtools.servers import EmbeddedServers

settings.register_profile("reservations", deadline=None, print_blob=True)
settings.load_profile("reservations")

ORDER: Final = ("unit", "simulation", "integration", "acceptance")
"""The quickest to fail come first."""
LAST: Final = "test_restarts.py"
"""Stops and kills the servers that the other tests share."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """From the small to the large."""
    items.sort(key=_rank)


def _rank(item: pytest.Item) -> tuple[int, bool]:
    folder = Path(item.path).parent.name
    return (ORDER.index(folder) if folder in ORDER else len(ORDER), item.path.name == LAST)


@pytest.fixture(scope="session", autouse=True)
def _children_can_be_interrupted() -> None:
    """A shell ignores SIGINT for what it starts in the background, and children inherit that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@dataclass(frozen=True)
class Servers:
    """Where RabbitMQ and MongoDB are; ``embedded`` if they are ours to stop and start."""

    amqp_url: str
    mongodb_uri: str
    embedded: EmbeddedServers | None = None


@pytest.fixture(scope="session")
async def servers() -> AsyncIterator[Servers]:
    """The servers that the environment names, else real ones of our own for this run."""
    amqp_url = os.environ.get("RESERVATION_AMQP_URL")
    mongodb_uri = os.environ.get("RESERVATION_MONGODB_URI")
    if amqp_url and mongodb_uri:
        yield Servers(amqp_url, mongodb_uri)
        return
    from worker.devtools.servers import embedded_servers

    async with embedded_servers() as running:
        yield Servers(running.amqp_url, running.mongodb_uri, running)


@pytest.fixture
async def cinema(servers: Servers) -> AsyncIterator[Cinema]:
    """An empty broker and an empty database for one test."""
    async with open_cinema(servers.amqp_url, servers.mongodb_uri) as opened:
        yield opened


@pytest.fixture(scope="module")
async def shared_cinema(servers: Servers) -> AsyncIterator[Cinema]:
    """One for all tests of a module, which must then keep to names of their own."""
    async with open_cinema(servers.amqp_url, servers.mongodb_uri) as opened:
        yield opened
