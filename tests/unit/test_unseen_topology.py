"""A user without permissions on part of the topology, where the broker does not let it look."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
from aiormq.exceptions import ChannelAccessRefused, ChannelNotFoundEntity

from contracts import topology
from worker.broker.topology import declare_topology
from worker.errors import BrokerForbids


class Broker:
    """Refuses every declaration, and every look at what this user has no permission on."""

    def __init__(self, permitted: set[str], existing: set[str]) -> None:
        self.permitted = permitted
        self.existing = existing

    @asynccontextmanager
    async def channel(self) -> AsyncIterator[Broker]:
        yield self

    async def declare_exchange(self, name: str, *_: object, **options: object) -> None:
        self._declare(name, is_passive="passive" in options)

    async def declare_queue(self, name: str, **options: object) -> None:
        self._declare(name, is_passive="passive" in options)

    def _declare(self, name: str, *, is_passive: bool) -> None:
        if not is_passive or name not in self.permitted:
            raise ChannelAccessRefused(f"access to {name} refused")
        if name not in self.existing:
            raise ChannelNotFoundEntity(f"no {name}")


LEAST = {topology.EVENTS, topology.DEAD_LETTERS, topology.REQUESTS}
ALL = LEAST | {topology.EVENTS_UNROUTED}


async def test_what_this_user_may_not_see_is_not_missing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    await declare_topology(cast(Any, Broker(LEAST, ALL)))
    unseen = f"exchange {topology.EVENTS_UNROUTED}, queue {topology.EVENTS_UNROUTED}"
    assert caplog.messages[-1] == f"this user may not see whether these exist: {unseen}"


async def test_what_is_missing_and_may_not_be_declared_is_named() -> None:
    with pytest.raises(BrokerForbids) as refused:
        await declare_topology(cast(Any, Broker(LEAST, ALL - {topology.REQUESTS})))
    missing = f"exchange {topology.REQUESTS}, queue {topology.REQUESTS} not there"
    assert str(refused.value).startswith(missing)
