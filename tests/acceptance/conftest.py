"""Servers that only the tests of security need, started once for all of these."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.acceptance.castle import guarded_cinema, open_castle
from tests.acceptance.cinema import Cinema
from tests.acceptance.fortress import Fortress


@pytest.fixture(scope="session")
async def castle() -> AsyncIterator[Fortress]:
    """Both servers, secured, with all their users."""
    async with open_castle() as opened:
        yield opened


@pytest.fixture
async def guarded(castle: Fortress) -> AsyncIterator[Cinema]:
    """The topology and the collections in the castle, as an administrator has made them."""
    async with guarded_cinema(castle) as opened:
        yield opened
