"""Publishers and a subscriber as the contract describes them, who come back whatever happens.

Written with plain aio-pika, like the client they build on; no code of the worker's is used here.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import aio_pika
import aio_pika.exceptions
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractExchange

from tests.acceptance.client import REQUESTS, UNROUTED, Client, Connection

Document = dict[str, Any]

BROKEN: Final = (*aio_pika.exceptions.CONNECTION_EXCEPTIONS, TimeoutError)
UNROUTED_ARGUMENTS: Final[dict[str, Any]] = {
    "x-queue-type": "classic",
    "x-max-length": 1_000_000,
    "x-max-length-bytes": 1_000_000_000,
}
PAUSE_SECONDS: Final = 0.1
SUBSCRIBE_SECONDS: Final = 10
CONFIRM_SECONDS: Final = 60
"""Longer than any alarm here: a publisher whom the broker blocks has only to wait."""


class Publisher:
    """Publishes requests, each until the broker has confirmed that it is in a queue."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: AbstractConnection | None = None
        self._channel: AbstractChannel | None = None

    async def publish(self, requests: Sequence[Document]) -> None:
        """Return when all of them are safe; some may then have been published twice."""
        waiting = list(requests)
        while waiting:
            try:
                exchange = await self._exchange()
                results = await asyncio.gather(
                    *(_publish(exchange, request) for request in waiting), return_exceptions=True
                )
            except BROKEN:
                await self._start_over()
                continue
            failed = [result for result in results if isinstance(result, BaseException)]
            unexpected = [failure for failure in failed if not isinstance(failure, BROKEN)]
            if unexpected:
                raise unexpected[0]
            waiting = [
                request
                for request, result in zip(waiting, results, strict=True)
                if isinstance(result, BaseException)
            ]
            if waiting:
                await self._start_over()

    async def close(self) -> None:
        if self._connection is not None:
            with suppress(*BROKEN):
                await asyncio.wait_for(self._connection.close(), 2)

    async def _exchange(self) -> AbstractExchange:
        if self._connection is None or self._connection.is_closed:
            self._connection = await aio_pika.connect(
                self._url, timeout=5, connection_class=Connection
            )
            self._channel = None
        if self._channel is None or self._channel.is_closed:
            # A request that finds no queue is not safe: its publisher hears of it.
            self._channel = await self._connection.channel(on_return_raises=True)
        return await self._channel.get_exchange(REQUESTS, ensure=False)

    async def _start_over(self) -> None:
        await self.close()
        await asyncio.sleep(PAUSE_SECONDS)


async def _publish(exchange: AbstractExchange, request: Mapping[str, Any]) -> None:
    message = aio_pika.Message(json.dumps(request).encode(), delivery_mode=2)
    await exchange.publish(message, request["movieId"], mandatory=True, timeout=CONFIRM_SECONDS)


class Subscriber:
    """A durable subscriber to all events and dead letters, those that found no queue included."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self._subscribing = asyncio.Lock()

    async def subscribe(self) -> None:
        """Declare and bind everything, as on the first day."""
        await self.client.connect(durable=True)
        unrouted = await self.client.channel.declare_queue(
            UNROUTED, durable=True, arguments=UNROUTED_ARGUMENTS
        )
        await unrouted.bind(UNROUTED, "#")
        await unrouted.consume(self.client._on_event)

    async def stay_subscribed(self) -> None:
        """Whenever the connection or the channel is lost, subscribe again, until cancelled."""
        while True:
            lost = self.client.connection.is_closed or self.client.channel.is_closed
            if lost and not self._subscribing.locked():
                await self.subscribe_again()
            await asyncio.sleep(PAUSE_SECONDS)

    async def subscribe_again(self) -> None:
        """Drop the connection, and do not give up before there is another."""
        async with self._subscribing:
            while True:
                with suppress(*BROKEN):
                    await asyncio.wait_for(self.client.close(), 2)
                with suppress(*BROKEN):
                    await asyncio.wait_for(self.subscribe(), SUBSCRIBE_SECONDS)
                    return
                await asyncio.sleep(PAUSE_SECONDS)


@asynccontextmanager
async def open_subscriber(url: str) -> AsyncIterator[Subscriber]:
    """A screen that shows whatever is announced while this lasts."""
    subscriber = Subscriber(Client(url))
    await subscriber.subscribe()
    staying = asyncio.create_task(subscriber.stay_subscribed())
    try:
        yield subscriber
    finally:
        staying.cancel()
        await asyncio.wait({staying})
        with suppress(*BROKEN):
            await asyncio.wait_for(subscriber.client.close(), 2)
