"""Replies over a real broker: a courtesy that can fail without affecting anything else."""

from __future__ import annotations

import asyncio

from tests.acceptance.client import Client
from worker.broker.messages import Message
from worker.broker.session import Session

FORGED = "amq.rabbitmq.reply-to.forged.address"


def reply_to(queue: str) -> Message:
    return Message(exchange="", routing_key=queue, body=b"{}", headers={}, mandatory=False)


async def test_a_reply_reaches_the_queue_that_asked_for_it(
    session: Session, client: Client
) -> None:
    queue = await client.reply_queue()
    await session.send([reply_to(queue)])
    await client.until(lambda: len(client.replies) == 1)


async def test_a_forged_reply_address_does_not_affect_events(
    session: Session, client: Client
) -> None:
    await session.send([reply_to(FORGED)])
    watching = asyncio.create_task(session.watch())
    event = Message("reservations.events", "reservation.confirmed.m", b"{}", {}, mandatory=True)
    assert await session.publish([event]) == [True]
    assert not watching.done()
    watching.cancel()
    assert client


async def test_replies_work_again_after_their_connection_was_closed(
    session: Session, client: Client
) -> None:
    queue = await client.reply_queue()
    await session.send([reply_to(FORGED)])

    async def until_it_arrives() -> None:
        while not client.replies:
            await session.send([reply_to(queue)])
            await asyncio.sleep(0)

    await asyncio.wait_for(until_it_arrives(), 10)
