"""Notices that a session exists and yet does nothing: connected, but not consuming.

A connection or channel that is closed reports it, and so does a consumer that the broker cancels.
But a broker can lose a channel or forget a consumer without notice, and a network can swallow every
packet. So the broker is asked for the state of the queue every few seconds, on the very channel
that consumes requests. It cannot be asked on the connection that publishes, where it does not
answer while an alarm blocks publishers; but it sends heartbeats even then. Decides only that a
session is of no use; the runtime opens the next one.
"""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass
from typing import Final, Never

from contracts import topology
from worker.broker.client_failures import translated_failures
from worker.broker.connection import Connection
from worker.broker.consumer import Consumer
from worker.broker.wire.channel import DirectChannel
from worker.errors import SessionLost

CHECK_SECONDS: Final = 3
ANSWER_TIMEOUT_SECONDS: Final = 6
"""For an answer that takes milliseconds. Both together leave several seconds for a new session, of
the 15 s within which a worker that does not consume must be consuming again."""
UNREAD_SECONDS: Final = 1
"""For an answer that has arrived already but has not been read."""

SILENT_HEARTBEATS: Final = 1.2
"""RabbitMQ sends two in each heartbeat interval if it has nothing else to send. The client library
waits for three intervals, which is more than half a minute."""


@dataclass(frozen=True, slots=True)
class QueueStatus:
    """The state of the queue, and what the consumer has received from it by then."""

    waiting: int
    consumers: int
    last_tag: int
    unsettled: int

    @property
    def fault(self) -> str | None:
        """What is wrong with it, if anything; for a moment that is normal."""
        if not self.consumers:
            return "the broker knows no consumer of it"
        if self.waiting and not self.unsettled:
            return f"{self.waiting} requests wait in it, and none is delivered"
        return None


class Watchdog:
    """Watches the consumer of one session, and the connection that it publishes on."""

    def __init__(self, channel: DirectChannel, consumer: Consumer, publishing: Connection) -> None:
        self._channel = channel
        self._consumer = consumer
        self._publishing = publishing
        self._heard_count = 0
        self._silent_checks = 0
        self._querying: asyncio.Task[QueueStatus] | None = None

    async def watch(self) -> Never:
        """Raise SessionLost when the broker does not answer, delivers nothing, or is silent.

        May be cancelled at any moment. A query under way then runs to its end, because
        cancelling it would close the channel.
        """
        before: QueueStatus | None = None
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            self._querying = asyncio.create_task(self._query())
            # Retrieved, so that asyncio does not log an exception that nothing awaits any more.
            self._querying.add_done_callback(lambda done: done.cancelled() or done.exception())
            status = await self._answer(self._querying)
            self._check_heartbeats()
            if self._consumer.stopped:
                continue
            if before and before.fault and status.fault and before.last_tag == status.last_tag:
                raise SessionLost(f"nothing comes from {topology.REQUESTS}: {status.fault}")
            before = status

    async def _answer(self, querying: asyncio.Task[QueueStatus]) -> QueueStatus:
        """Wait for the answer, and then a moment longer, in case the process was paused meanwhile.

        A paused process is past its timeout as soon as it resumes, before it has read what arrived.
        """
        for timeout_seconds in (ANSWER_TIMEOUT_SECONDS, UNREAD_SECONDS):
            await asyncio.wait({querying}, timeout=timeout_seconds)
            if querying.done():
                return querying.result()
        raise SessionLost(f"RabbitMQ does not answer when asked about {topology.REQUESTS}")

    def _check_heartbeats(self) -> None:
        """Count checks and not time, because a process that is paused receives nothing."""
        heard_count = self._publishing.demultiplexer.heard_count
        silent = heard_count == self._heard_count
        self._heard_count = heard_count
        self._silent_checks = self._silent_checks + 1 if silent else 0
        silence_seconds = self._silent_checks * CHECK_SECONDS
        if silence_seconds >= SILENT_HEARTBEATS * (self._publishing.heartbeat_seconds or math.inf):
            raise SessionLost(
                f"RabbitMQ has been silent for {silence_seconds:g} s on the connection that "
                "publishes events"
            )

    async def _query(self) -> QueueStatus:
        with translated_failures(f"asking RabbitMQ about {topology.REQUESTS}"):
            answer = await self._channel.queue_declare(topology.REQUESTS, passive=True)
        return QueueStatus(
            waiting=answer.message_count or 0,
            consumers=answer.consumer_count or 0,
            last_tag=self._consumer.last_tag,
            unsettled=self._consumer.unsettled,
        )
