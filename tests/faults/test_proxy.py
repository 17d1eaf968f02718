"""The proxy does to a wire what it is told to, and nothing else."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

import pytest

from tests.faults.proxy import Proxy
from tests.faults.wires import BASIC_ACK, BASIC_DELIVER, BrokerWire
from worker.devtools.servers.process import poll

DEADLINE_SECONDS: Final = 10
NOT_YET_SECONDS: Final = 0.1
"""For what must not come; whatever does come takes a hundredth of it."""
LINE: Final = (
    b"a line of a hundred and some bytes, which is long enough to be torn somewhere" * 2 + b"\n"
)


@pytest.fixture
async def proxy() -> AsyncIterator[Proxy]:
    """In front of a server that echoes."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(1000):
                writer.write(data)
        except ConnectionResetError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)

    async def port() -> int:
        return int(server.sockets[0].getsockname()[1])

    async with server, Proxy(port).opened() as opened:
        yield opened


class Caller:
    """A client of the echo."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def hears(self) -> bytes:
        self.writer.write(LINE)
        return await asyncio.wait_for(self.reader.readline(), DEADLINE_SECONDS)

    async def bytes_until_torn(self) -> int:
        count = 0
        try:
            while True:
                self.writer.write(LINE)
                count += len(
                    await asyncio.wait_for(self.reader.readexactly(len(LINE)), DEADLINE_SECONDS)
                )
        except (ConnectionResetError, asyncio.IncompleteReadError):
            return count + len(self.reader._buffer)  # type: ignore[attr-defined]

    async def hears_nothing(self) -> bool:
        self.writer.write(LINE)
        try:
            await asyncio.wait_for(self.reader.read(1), NOT_YET_SECONDS)
        except TimeoutError:
            return True
        return False


Call = Callable[[], Awaitable[Caller]]


@pytest.fixture
async def call(proxy: Proxy) -> AsyncIterator[Call]:
    """Calls the echo through the proxy, and hangs up at the end."""
    callers: list[Caller] = []

    async def calling() -> Caller:
        callers.append(Caller(*await asyncio.open_connection("127.0.0.1", proxy.port)))
        return callers[-1]

    yield calling
    for caller in callers:
        caller.writer.close()


async def test_everything_passes_both_ways(proxy: Proxy, call: Call) -> None:
    caller = await call()
    assert [await caller.hears() for _ in range(3)] == [LINE] * 3
    assert proxy.connections == 1


async def test_a_cut_resets_what_is_open_and_refusing_lets_nobody_in(
    proxy: Proxy, call: Call
) -> None:
    caller = await call()
    await caller.hears()
    proxy.refuse()
    proxy.cut()
    with pytest.raises(ConnectionResetError):
        await caller.hears()
    with pytest.raises(ConnectionRefusedError):
        await call()
    await proxy.accept()
    assert await (await call()).hears() == LINE


async def test_what_went_into_a_blackhole_arrives_when_it_is_over(proxy: Proxy, call: Call) -> None:
    caller = await call()
    await caller.hears()
    proxy.blackhole()
    assert await caller.hears_nothing()
    proxy.restore()
    assert await asyncio.wait_for(caller.reader.readline(), DEADLINE_SECONDS) == LINE


async def test_abandoned_connections_stay_dead_while_new_ones_work(
    proxy: Proxy, call: Call
) -> None:
    caller = await call()
    await caller.hears()
    proxy.blackhole()
    during = await call()

    async def both_there() -> bool:
        return proxy.connections == 2

    await poll(both_there, DEADLINE_SECONDS)
    proxy.restore(old_connections=False)
    assert await (await call()).hears() == LINE
    assert await caller.hears_nothing()
    assert await during.hears_nothing()


async def test_a_torn_connection_ends_in_the_middle_of_what_was_sent(
    proxy: Proxy, call: Call
) -> None:
    caller = await call()
    await caller.hears()
    proxy.tear(random.Random(1))
    assert await caller.bytes_until_torn() % len(LINE) != 0
    proxy.tear(None)
    assert await (await call()).hears() == LINE


async def test_a_wire_to_rabbitmq_sees_who_acknowledges_what() -> None:
    async def nowhere() -> int:
        return 1

    def consuming() -> float | None:
        return wire.consuming_since

    wire = BrokerWire(nowhere)
    wire.seen(BASIC_ACK, from_client=True)
    assert consuming() is None
    wire.seen(BASIC_DELIVER, from_client=False)
    wire.seen(BASIC_ACK, from_client=True)
    since = consuming()
    assert since is not None
    wire.seen(BASIC_ACK, from_client=True)
    assert consuming() == since
    wire.lost()
    assert consuming() is None
