"""Servers that only the tests of security need, started once for all of these."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.acceptance.cinema import Cinema
from tests.acceptance.secured_servers import SecuredServers
from tests.acceptance.secured_users import open_secured_cinema, open_secured_servers


@pytest.fixture(scope="session")
async def secured() -> AsyncIterator[SecuredServers]:
    """Both servers, secured, with all their users."""
    async with open_secured_servers() as opened:
        yield opened


@pytest.fixture
async def secured_cinema(secured: SecuredServers) -> AsyncIterator[Cinema]:
    """Topology and collections on the secured servers, as an administrator has made them."""
    async with open_secured_cinema(secured) as opened:
        yield opened
