"""The simulated broker is compared with a real RabbitMQ: the same actions, the same answers.

The worker's own session is used on both, so whatever it does on one must have the same result on
the other: what is delivered, in which order, and how many failures are counted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, Protocol

import pytest

from contracts.topology import DELIVERY_LIMIT, REQUESTS
from tests.acceptance.client import Client
from tests.conftest import Servers
from tests.simulation.evidence import Discarded
from tests.simulation.mongod import Mongod
from tests.simulation.process import PROCESS, Parts, Process, SimulatedSession
from tests.simulation.rabbit import Rabbit
from tests.simulation.world import SLOW_SECONDS, World
from worker.broker.messages import Delivery, Message
from worker.broker.session import Session
from worker.errors import SessionLost

DEADLINE_SECONDS: Final = 20


class Broker(Protocol):
    """A broker, and publishers that send it requests."""

    async def send(self, *bodies: str) -> None: ...
    async def open(self, prefetch: int, *, slow_start: bool) -> Session: ...
    async def until_given_up(self) -> None:
        """Wait until the broker has dead-lettered a request that failed too often."""


class RealBroker:
    """A real RabbitMQ."""

    def __init__(self, servers: Servers, client: Client) -> None:
        self._servers = servers
        self._client = client

    async def send(self, *bodies: str) -> None:
        await self._client.publish_all([body.encode() for body in bodies])

    async def open(self, prefetch: int, *, slow_start: bool) -> Session:
        return await Session.open(self._servers.amqp_url, prefetch, slow_start=slow_start)

    async def until_given_up(self) -> None:
        await self._client.dead_letters(1)


class SimulatedBroker:
    """The broker of the simulator."""

    def __init__(self) -> None:
        self.world = World(1)
        # Like every RabbitMQ before 4.3, this one counts what is handed back as a failure.
        self._rabbit = Rabbit(self.world, 1800, nack_is_failure=True)
        mongod = Mongod(self.world, {})
        self._process = Process(self.world, mongod, self._rabbit, "worker", Parts())

    async def send(self, *bodies: str) -> None:
        for body in bodies:
            self._rabbit.send(body.encode(), None)

    async def open(self, prefetch: int, *, slow_start: bool) -> Session:
        PROCESS.set(self._process)
        return await SimulatedSession.open("", prefetch, slow_start=slow_start)

    async def until_given_up(self) -> None:
        # The rejection takes no longer than any other message to the broker.
        await asyncio.sleep(SLOW_SECONDS)
        assert any(isinstance(fact, Discarded) for fact in self.world.journal)


Story = Callable[[Broker], Coroutine[Any, Any, object]]
Seen = list[tuple[str, int]]


async def collected(session: Session, number: int) -> list[Delivery]:
    """The next ``number`` deliveries, in however many batches they arrive."""
    found: list[Delivery] = []
    async with asyncio.timeout(DEADLINE_SECONDS):
        while len(found) < number:
            found += await session.consumer.collect(number - len(found))
    return found


def seen(deliveries: list[Delivery]) -> Seen:
    return [(delivery.body.decode(), delivery.failures) for delivery in deliveries]


async def waiting(session: Session) -> object:
    """How many requests the broker has not delivered."""
    declared = await session._channels[0].queue_declare(REQUESTS, passive=True, timeout=10)
    return declared.message_count


async def one_of_three_fails(broker: Broker) -> object:
    session = await broker.open(10, slow_start=False)
    await broker.send("a", "b", "c")
    batch = await collected(session, 3)
    await session.consumer.settle(batch, failed=batch[1:2])
    again = await collected(session, 1)
    await session.consumer.settle(again, failed=[])
    await session.close()
    return seen(batch), seen(again)


async def a_session_ends_in_the_middle(broker: Broker) -> object:
    session = await broker.open(10, slow_start=False)
    await broker.send("a", "b", "c", "d")
    first = await collected(session, 4)
    await session.consumer.settle(first[:1], failed=[])
    await session.close()
    session = await broker.open(10, slow_start=False)
    second = await collected(session, 3)
    await session.close()
    return seen(first), seen(second)


async def all_is_handed_back(broker: Broker) -> object:
    session = await broker.open(10, slow_start=False)
    await broker.send("a", "b")
    await collected(session, 2)
    await session.consumer.stop()
    handed_back = await session.consumer.hand_back()
    await session.close()
    session = await broker.open(10, slow_start=False)
    again = seen(await collected(session, 2))
    await session.close()
    return handed_back, again


async def a_session_holds_no_more_than_its_prefetch(broker: Broker) -> object:
    session = await broker.open(2, slow_start=False)
    await broker.send("a", "b", "c")
    batch = await collected(session, 2)
    left = await waiting(session)
    await session.consumer.settle(batch[:1], failed=[])
    rest = await collected(session, 1)
    await session.close()
    return seen(batch), left, seen(rest)


async def a_session_begins_with_one(broker: Broker) -> object:
    await broker.send("a", "b", "c", "d")
    session = await broker.open(2, slow_start=True)
    first = await collected(session, 1)
    left = [await waiting(session)]
    await session.consumer.settle(first, failed=[])
    rest = await collected(session, 2)
    left.append(await waiting(session))
    await session.close()
    return seen(first), seen(rest), left


async def something_unknown_is_settled(broker: Broker) -> object:
    session = await broker.open(10, slow_start=False)
    await broker.send("a")
    await collected(session, 1)
    nonsense = Delivery(tag=7, body=b"")
    await session.consumer.settle([nonsense], failed=[])
    async with asyncio.timeout(DEADLINE_SECONDS):
        with pytest.raises(SessionLost, match="PRECONDITION_FAILED - unknown delivery tag 7"):
            await session.watch()
    await session.close()
    session = await broker.open(10, slow_start=False)
    again = seen(await collected(session, 1))
    await session.close()
    return again


async def a_request_fails_until_it_is_given_up(broker: Broker) -> object:
    session = await broker.open(10, slow_start=False)
    await broker.send("a")
    counts = []
    for _ in range(DELIVERY_LIMIT + 1):
        batch = await collected(session, 1)
        counts += seen(batch)
        await session.consumer.settle(batch, failed=batch)
    await broker.until_given_up()
    left = await waiting(session)
    await session.close()
    return counts, left


async def events_are_published(broker: Broker) -> object:
    session = await broker.open(10, slow_start=False)
    messages = [
        Message("reservations.events", "reservation.x", b"x" * size, {"a": "b"}, mandatory=True)
        for size in (0, 5, 300_000)
    ]
    confirmed = await session.publish(messages * 50)
    await session.close()
    return confirmed


@pytest.mark.parametrize(
    "story",
    [
        one_of_three_fails,
        a_session_ends_in_the_middle,
        all_is_handed_back,
        a_session_holds_no_more_than_its_prefetch,
        a_session_begins_with_one,
        something_unknown_is_settled,
        a_request_fails_until_it_is_given_up,
        events_are_published,
    ],
)
async def test_the_simulated_broker_does_what_rabbitmq_does(
    servers: Servers, client: Client, story: Story
) -> None:
    real = await story(RealBroker(servers, client))
    assert await in_a_thread_of_its_own(story) == real


def in_a_thread_of_its_own(story: Story) -> Awaitable[object]:
    """A thread can run only one loop at a time, and the real one is running here."""
    broker = SimulatedBroker()
    return asyncio.to_thread(broker.world.loop.run_until_complete, story(broker))
