"""A session with a real broker: how it publishes, gets its confirms, and ends."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlsplit

import pytest

from contracts.topology import DEAD_LETTERS, REQUESTS
from tests.acceptance.client import Client
from tests.conftest import Servers
from worker.broker.messages import Message
from worker.broker.session import Session
from worker.errors import BrokerUnusable, SessionLost

DEADLINE_SECONDS: Final = 10


def message(key: str, body: bytes = b"{}", **options: Any) -> Message:  # noqa: ANN401
    """A message to a queue, through the default exchange."""
    defaults: dict[str, Any] = {"exchange": "", "headers": {}, "mandatory": True}
    return Message(routing_key=key, body=body, **{**defaults, **options})


async def queue_of(client: Client, name: str, most: int | None = None) -> str:
    """A queue that refuses what exceeds its limit, if it has one."""
    full: dict[str, Any] = {"x-max-length": most, "x-overflow": "reject-publish"}
    await client.channel.declare_queue(name, exclusive=True, arguments=full if most else None)
    return name


async def test_a_large_batch_is_confirmed_and_arrives_in_order(
    session: Session, client: Client
) -> None:
    queue = await client.reply_queue()
    bodies = [str(number).encode() for number in range(1000)]
    assert (
        await session.publisher.publish([message(queue, body) for body in bodies]) == [True] * 1000
    )
    await client.until(lambda: len(client.replies) == 1000)
    assert [reply.body for reply in client.replies] == bodies


async def test_a_message_of_several_frames_arrives_whole(session: Session, client: Client) -> None:
    queue = await client.reply_queue()
    body = bytes(range(256)) * 2000
    assert await session.publisher.publish([message(queue, body), message(queue, b"")])
    await client.until(lambda: len(client.replies) == 2)
    assert [reply.body for reply in client.replies] == [body, b""]


async def test_all_properties_of_a_message_arrive(session: Session, client: Client) -> None:
    queue = await client.reply_queue()
    now = datetime(2026, 11, 22, 18, 0, tzinfo=UTC)
    sent = message(
        queue,
        headers={"ce-id": "1"},
        content_type="a/b",
        content_encoding="c",
        correlation_id="d",
        reply_to="e",
        message_id="f",
        type="g",
        timestamp=now,
    )
    await session.publisher.publish([sent])
    await client.until(lambda: bool(client.replies))
    (reply,) = client.replies
    assert reply.headers == {"ce-id": "1"}
    assert reply.properties == {
        "content_type": "a/b",
        "content_encoding": "c",
        "correlation_id": "d",
        "reply_to": "e",
        "message_id": "f",
        "type": "g",
        "timestamp": now,
        "app_id": "reservation-worker",
        "delivery_mode": 2,
    }


async def test_publishing_nothing_is_confirmed_at_once(session: Session) -> None:
    assert await session.publisher.publish([]) == []


async def test_only_messages_that_a_full_queue_refuses_are_reported_so(
    session: Session, client: Client
) -> None:
    small, large = await queue_of(client, "small", most=2), await queue_of(client, "large")
    messages = [message(queue) for queue in (small, large, small, small, large, small)]
    results = await session.publisher.publish(messages)
    assert results == [True, True, True, False, True, False]
    assert await session.publisher.publish([message(large), message(small)]) == [True, False]


@pytest.mark.parametrize("message_id", ["r1:confirmed", None])
async def test_a_mandatory_message_without_a_queue_ends_the_session(
    session: Session, message_id: str | None
) -> None:
    with pytest.raises(SessionLost, match="no queue"):
        await session.publisher.publish([message("no such queue", message_id=message_id)])


async def test_a_dead_letter_without_a_queue_is_not_confirmed(
    session: Session, client: Client
) -> None:
    queue = await client.channel.get_queue(DEAD_LETTERS)
    await queue.unbind(DEAD_LETTERS, routing_key="#")  # The worker's binding,
    await queue.unbind(DEAD_LETTERS)  # and the client's.
    with pytest.raises(SessionLost, match="no queue"):
        await session.publisher.publish([message("heat", exchange=DEAD_LETTERS)])


async def test_a_message_that_is_not_mandatory_may_find_no_queue(session: Session) -> None:
    lost = message("no such queue", mandatory=False, message_id="r1:confirmed")
    assert await session.publisher.publish([lost]) == [True]


async def test_a_message_id_twice_in_a_batch_is_confirmed_twice(
    session: Session, client: Client
) -> None:
    queue = await client.reply_queue()
    twice = [message(queue, message_id="same")] * 2
    assert await session.publisher.publish(twice) == [True, True]


async def test_a_closed_channel_fails_what_was_not_confirmed(
    session: Session, client: Client
) -> None:
    queue = await client.reply_queue()
    messages = [message(queue), message("x", exchange="no such exchange"), message(queue)]
    with pytest.raises(SessionLost, match="no such exchange"):
        await session.publisher.publish(messages)
    with pytest.raises(SessionLost):
        await session.publisher.publish([message(queue)])
    with pytest.raises(SessionLost, match="no such exchange"):
        await watched(session)


async def test_a_broken_connection_fails_what_was_not_confirmed(
    session: Session, client: Client
) -> None:
    queue = await client.reply_queue()
    publishing = asyncio.create_task(
        session.publisher.publish([message(queue, b"x" * 10_000)] * 5000)
    )
    await client.until(lambda: bool(client.replies))
    await cut(session, 1)
    with pytest.raises(SessionLost):
        await asyncio.wait_for(publishing, DEADLINE_SECONDS)


async def cut(session: Session, connection: int) -> None:
    """Close a connection from under its channel."""
    transport = session._connections[connection].transport
    assert transport is not None
    await transport.connection.close()


async def watched(session: Session) -> None:
    await asyncio.wait_for(session.watch(), DEADLINE_SECONDS)


@pytest.mark.parametrize("connection", [0, 1])
async def test_a_session_ends_with_either_of_its_connections(
    session: Session, connection: int
) -> None:
    watching = asyncio.create_task(watched(session))
    await cut(session, connection)
    with pytest.raises(SessionLost):
        await watching


async def test_a_session_ends_when_its_queue_is_deleted(session: Session, client: Client) -> None:
    watching = asyncio.create_task(watched(session))
    await client.channel.queue_delete(REQUESTS)
    with pytest.raises(SessionLost, match=REQUESTS):
        await watching


async def test_a_closed_session_may_be_closed_again(session: Session) -> None:
    await session.close()
    await session.close()


@pytest.mark.parametrize(
    "change",
    [{"port": "1"}, {"vhost": "/no-such-vhost"}, {"password": "wrong"}],
    ids=["no server", "no virtual host", "wrong password"],
)
async def test_an_unusable_broker_is_named_without_its_password(
    servers: Servers, change: dict[str, str]
) -> None:
    parts = urlsplit(servers.amqp_url)
    port, password = change.get("port", parts.port), change.get("password", "guest")
    url = f"amqp://guest:{password}@{parts.hostname}:{port}{change.get('vhost', '/')}"
    with pytest.raises(BrokerUnusable) as unusable:
        await Session.open(url, 10)
    assert f"{parts.hostname}:{port}" in str(unusable.value)
    assert f":{password}@" not in str(unusable.value)
    assert unusable.value.exit_code == 3
