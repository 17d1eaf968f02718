"""A shop and its customers' screens: publishes requests, and receives all that becomes of them.

Written against the contract alone, with plain aio-pika and no code of the worker's, so that it
would notice if worker and contract went different ways together.
"""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage, AbstractQueue
from pamqp.commands import Basic

REQUESTS: Final = "reservations.requests"
EVENTS: Final = "reservations.events"
UNROUTED: Final = "reservations.events.unrouted"
DEAD_LETTERS: Final = "reservations.dead-letters"
SUBSCRIBER: Final = "test.subscriber"

DEADLINE_SECONDS: Final = 30
"""For anything awaited here; only a test that fails waits as long."""
PUBLISHED_AT_ONCE: Final = 500


@dataclass(frozen=True)
class Received:
    """A message as a subscriber sees it."""

    body: bytes
    routing_key: str
    properties: Mapping[str, Any]
    headers: Mapping[str, Any]

    @property
    def content(self) -> dict[str, Any]:
        content = json.loads(self.body)
        assert isinstance(content, dict)
        return content

    @property
    def error(self) -> object:
        return self.headers.get("x-reservation-error")

    @classmethod
    def of(cls, message: AbstractIncomingMessage) -> Received:
        names = "content_type content_encoding correlation_id message_id type timestamp app_id"
        return cls(
            body=message.body,
            routing_key=message.routing_key or "",
            properties={
                **{name: getattr(message, name) for name in names.split()},
                "delivery_mode": int(message.delivery_mode or 0),
                "reply_to": message.reply_to,
            },
            headers=dict(message.headers),
        )


class Connection(aio_pika.Connection):
    """One that was refused has nothing to close when it is collected, nor a loop to do it in."""

    def __del__(self) -> None:
        pass


class RawProperties(Basic.Properties):
    """Message properties that are sent as the bytes they are."""

    def __init__(self, marshalled: bytes) -> None:
        super().__init__()
        self._marshalled = marshalled

    def marshal(self) -> bytes:
        return self._marshalled


class Client:
    """Everything that reached a subscriber since it was opened, and ways to wait for more."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.connection: AbstractConnection
        self.channel: AbstractChannel
        self.events: dict[str, list[Received]] = defaultdict(list)
        self.received_dead_letters: list[Received] = []
        self.replies: list[Received] = []
        self._arrived = asyncio.Event()
        self._everything: AbstractQueue
        self._dead_letter_consumer = ""

    @classmethod
    async def open(cls, url: str, *, durable: bool = False) -> Self:
        """Connect, declare as the contract says, and subscribe to events and dead letters.

        A durable subscription outlives the connection, and then the broker.
        """
        client = cls(url)
        await client.connect(durable=durable)
        return client

    async def connect(self, *, durable: bool = False) -> None:
        self.connection = await aio_pika.connect(self.url, connection_class=Connection)
        self.channel = await self.connection.channel()
        await self.declare()
        self._everything = await self.channel.declare_queue(
            SUBSCRIBER if durable else None, durable=durable, exclusive=not durable
        )
        await self._everything.bind(EVENTS, "reservation.#")
        await self._everything.consume(self._on_event)
        await self.consume_dead_letters()

    async def close(self) -> None:
        await self.connection.close()

    async def declare(self) -> None:
        """The contract's table, written out again."""
        for name, kind in ((DEAD_LETTERS, "fanout"), (UNROUTED, "fanout"), (REQUESTS, "topic")):
            await self.channel.declare_exchange(name, kind, durable=True)
        await self.channel.declare_exchange(
            EVENTS, "topic", durable=True, arguments={"alternate-exchange": UNROUTED}
        )
        dead_letters = await self.channel.declare_queue(
            DEAD_LETTERS, durable=True, arguments={"x-queue-type": "quorum"}
        )
        await dead_letters.bind(DEAD_LETTERS)
        requests = await self.channel.declare_queue(
            REQUESTS,
            durable=True,
            arguments={
                "x-queue-type": "quorum",
                "x-delivery-limit": 20,
                "x-dead-letter-exchange": DEAD_LETTERS,
                "x-dead-letter-strategy": "at-least-once",
                "x-overflow": "reject-publish",
            },
        )
        await requests.bind(REQUESTS, "#")

    async def publish(
        self,
        request: Mapping[str, Any] | bytes,
        *,
        exchange: str = REQUESTS,
        **properties: Any,  # noqa: ANN401  # Whatever aio-pika's Message takes.
    ) -> None:
        """Publish one request and wait until the broker has it."""
        body = request if isinstance(request, bytes) else json.dumps(request).encode()
        message = aio_pika.Message(body, delivery_mode=2, **properties)
        key = REQUESTS if exchange == "" else _routing_key(request)
        target = (
            self.channel.default_exchange
            if exchange == ""
            else await self.channel.get_exchange(exchange, ensure=False)
        )
        await target.publish(message, key)

    async def publish_all(self, requests: Iterable[Mapping[str, Any] | bytes]) -> None:
        """Publish many requests in their order, without waiting for each."""
        waiting = list(requests)
        while waiting:
            now, waiting = waiting[:PUBLISHED_AT_ONCE], waiting[PUBLISHED_AT_ONCE:]
            await asyncio.gather(*(self.publish(request) for request in now))

    async def outcomes(
        self, request_ids: Collection[str], *, seconds: float = DEADLINE_SECONDS
    ) -> dict[str, Received]:
        """The first event of each request, once all of them have one."""
        missing = set(request_ids)

        def complete() -> bool:
            missing.difference_update(self.events.keys())
            return not missing

        await self.until(complete, seconds, lambda: f"no event for {sorted(missing)[:5]} …")
        return {request_id: self.events[request_id][0] for request_id in request_ids}

    async def outcome(self, request_id: str) -> dict[str, Any]:
        """The content of the first event of a request."""
        return (await self.outcomes([request_id]))[request_id].content

    async def events_of(self, number: int) -> None:
        """Wait until so many requests have an event, whichever they are."""
        await self.until(lambda: len(self.events) >= number)

    async def all_events(self, request_id: str, number: int) -> list[Received]:
        """The events of a request, once there are so many."""
        await self.until(lambda: len(self.events[request_id]) >= number)
        return self.events[request_id]

    async def dead_letters(self, number: int, *, of: bytes | None = None) -> list[Received]:
        """The dead letters, of one body if it is given, once there are so many."""

        def found() -> list[Received]:
            return [
                dead_letter
                for dead_letter in self.received_dead_letters
                if of is None or dead_letter.body == of
            ]

        await self.until(lambda: len(found()) >= number)
        return found()

    async def consume_dead_letters(self) -> None:
        dead_letters = await self.channel.get_queue(DEAD_LETTERS)
        self._dead_letter_consumer = await dead_letters.consume(self._on_dead_letter)

    async def leave_dead_letters(self) -> None:
        """Leave dead letters in their queue, for those that no client of ours could read."""
        await (await self.channel.get_queue(DEAD_LETTERS)).cancel(self._dead_letter_consumer)

    async def publish_raw(self, request: Mapping[str, Any], properties: bytes) -> None:
        """Publish with properties that were marshalled by hand, as bad as a test wants them."""
        channel = await self.channel.get_underlay_channel()
        await channel.basic_publish(
            json.dumps(request).encode(), routing_key=REQUESTS, properties=RawProperties(properties)
        )

    async def take_unrouted_events(self) -> None:
        """From now on be no subscriber, but look at what nobody subscribed to."""
        await self._everything.delete(if_unused=False)
        unrouted = await self.channel.get_queue(UNROUTED)
        await unrouted.consume(self._on_event)

    async def reply_queue(self) -> str:
        """A queue for replies, which end up in ``replies``."""
        queue = await self.channel.declare_queue(exclusive=True)
        await queue.consume(self._on_reply, no_ack=True)
        return queue.name

    async def depth(self, queue: str) -> int:
        """The messages of a queue that wait for a consumer."""
        declared = await self.channel.declare_queue(queue, passive=True)
        return declared.declaration_result.message_count or 0

    async def until(
        self,
        condition: Callable[[], bool],
        seconds: float = DEADLINE_SECONDS,
        problem: Callable[[], str] = lambda: "what was waited for did not come",
    ) -> None:
        """Wait until it holds, looking again whenever anything arrives."""
        try:
            async with asyncio.timeout(seconds):
                while not condition():
                    self._arrived.clear()
                    await self._arrived.wait()
        except TimeoutError:
            raise AssertionError(f"{problem()} within {seconds:g} s") from None

    async def _on_event(self, message: AbstractIncomingMessage) -> None:
        await message.ack()
        event = Received.of(message)
        self.events[event.content["requestId"]].append(event)
        self._arrived.set()

    async def _on_dead_letter(self, message: AbstractIncomingMessage) -> None:
        await message.ack()
        self.received_dead_letters.append(Received.of(message))
        self._arrived.set()

    async def _on_reply(self, message: AbstractIncomingMessage) -> None:
        self.replies.append(Received.of(message))
        self._arrived.set()


def _routing_key(request: Mapping[str, Any] | bytes) -> str:
    movie_id = None if isinstance(request, bytes) else request.get("movieId")
    return movie_id if isinstance(movie_id, str) and len(movie_id.encode()) <= 255 else "unknown"


async def wipe(url: str) -> None:
    """Delete whatever has a name of the contract's, so that a test finds the broker empty."""
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        for name in (REQUESTS, DEAD_LETTERS, UNROUTED, SUBSCRIBER):
            await channel.queue_delete(name)
        for name in (REQUESTS, EVENTS, UNROUTED, DEAD_LETTERS):
            await channel.exchange_delete(name)
