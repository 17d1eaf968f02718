"""The clients of a benchmark: one publishes requests, one counts outcomes.

Outcomes are counted as the length of the queue for events without a subscriber, read with a passive
declaration every COUNT_SECONDS. That costs the broker next to nothing and the benchmark even less,
and is the same for every contestant; a subscriber in Python would use much of the processor time
that it shares with the contestants.

Latency does need a subscriber. It runs at half load, where there is processor time to spare, and
reads only the correlation id.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Final

from aiormq.abc import ChannelFrame

from contracts import ReservationRequest, topology
from tests.benchmarks.failures import BenchmarkFailed
from worker.broker.connection import connect
from worker.broker.messages import Message
from worker.broker.publisher import Publisher
from worker.broker.topology import declare_topology
from worker.broker.wire.channel import DirectChannel, open_channel
from worker.broker.wire.decoding import DeliveredMessage
from worker.broker.wire.encoding import publish_frames

COUNT_SECONDS: Final = 0.05
QUIET_SECONDS: Final = 1.0
"""After this time without a new outcome, a contestant with an empty queue counts as idle."""
PUBLISH_CHUNK: Final = 1_000
SEND_INTERVAL_SECONDS: Final = 0.001
LATE_EVENT_SECONDS_MAX: Final = 30

QUEUES: Final = (topology.REQUESTS, topology.EVENTS_UNROUTED, topology.DEAD_LETTERS)


class Traffic:
    """Publishes requests and counts outcomes, through connections of its own."""

    def __init__(self, url: str, counting: DirectChannel, publishing: DirectChannel) -> None:
        self._url = url
        self._counting = counting
        self._publisher = Publisher(publishing)

    async def purge(self) -> None:
        """Empty every queue of the contract."""
        for queue in QUEUES:
            await self._counting.queue_purge(queue)

    async def purge_requests(self) -> None:
        """Purge the requests that have not been delivered yet."""
        await self._counting.queue_purge(topology.REQUESTS)

    async def publish(self, requests: Iterator[ReservationRequest], count: int) -> None:
        """Publish the next ``count`` requests, confirmed."""
        for start in range(0, count, PUBLISH_CHUNK):
            chunk = itertools.islice(requests, min(PUBLISH_CHUNK, count - start))
            confirmed = await self._publisher.publish([_message(request) for request in chunk])
            assert all(confirmed), "the broker refused a request"

    async def outcomes(self) -> int:
        """The number of events published since the last purge."""
        declared = await self._counting.queue_declare(topology.EVENTS_UNROUTED, passive=True)
        return declared.message_count or 0

    async def drain_outcomes(self) -> int:
        """Purge the events published since the last purge; returns their number."""
        purged = await self._counting.queue_purge(topology.EVENTS_UNROUTED)
        return purged.message_count or 0

    async def dead_letters(self) -> int:
        """The number of dead letters since the last purge; no workload should cause any."""
        declared = await self._counting.queue_declare(topology.DEAD_LETTERS, passive=True)
        return declared.message_count or 0

    async def until_quiet(self) -> None:
        """Wait until no more outcomes arrive."""
        before = -1
        while (now := await self.outcomes()) != before:
            before = now
            await asyncio.sleep(QUIET_SECONDS)

    async def latencies(
        self, requests: Iterator[ReservationRequest], rate: float, seconds: float
    ) -> list[float]:
        """Seconds from when each request was due to be sent until its event arrived, sorted.

        Requests are due at a fixed rate, whatever happens to those before them, and the clock
        starts when one is due, so time spent waiting behind a stalled contestant is counted.
        Raises BenchmarkFailed if an event is missing LATE_EVENT_SECONDS_MAX after the last request.
        """
        count = max(int(rate * seconds), 1)
        async with (
            await connect(self._url, "sending") as sending,
            await connect(self._url, "receiving") as receiving,
        ):
            sender = await open_channel(sending, confirms=False)
            frames = [
                publish_frames(
                    sender.number, sender.max_content_size, _message(request, str(index))
                )
                for index, request in enumerate(itertools.islice(requests, count))
            ]
            arrivals = await _Arrivals.watch(
                await open_channel(receiving, confirms=False), len(frames)
            )
            due = await _send(sender, frames, rate)
            await arrivals.complete()
        return sorted(end - start for start, end in zip(due, arrivals.times, strict=True))


class _Arrivals:
    """When the event of each request arrived, by its correlation id."""

    def __init__(self, count: int) -> None:
        self.times = [float("inf")] * count
        self._missing = count
        self._all_there = asyncio.Event()
        self._now = asyncio.get_running_loop().time

    @classmethod
    async def watch(cls, channel: DirectChannel, count: int) -> _Arrivals:
        arrivals = cls(count)
        declared = await channel.queue_declare(exclusive=True)
        queue = declared.queue or ""
        await channel.queue_bind(queue, topology.EVENTS, "#")
        await channel.consume(queue, arrivals.note, no_ack=True)
        return arrivals

    def note(self, event: DeliveredMessage) -> None:
        correlation_id = event.properties.correlation_id or ""
        # Other events are from before, and their correlation ids are request ids.
        if correlation_id.isdigit() and self.times[int(correlation_id)] == float("inf"):
            self.times[int(correlation_id)] = self._now()
            self._missing -= 1
            if not self._missing:
                self._all_there.set()

    async def complete(self) -> None:
        try:
            async with asyncio.timeout(LATE_EVENT_SECONDS_MAX):
                await self._all_there.wait()
        except TimeoutError:
            raise BenchmarkFailed(f"{self._missing} events are missing") from None


async def _send(channel: DirectChannel, frames: list[bytes], rate: float) -> list[float]:
    """Send at a fixed rate; returns when each was due."""
    now = asyncio.get_running_loop().time
    start = now() + SEND_INTERVAL_SECONDS
    due = [start + index / rate for index in range(len(frames))]
    sent = 0
    while sent < len(frames):
        moment = now()
        ready = sent
        while ready < len(frames) and due[ready] <= moment:
            ready += 1
        if ready > sent:
            payload = b"".join(frames[sent:ready])
            await channel.write_queue.put(ChannelFrame(payload, should_close=False))
            sent = ready
        if sent < len(frames):
            await asyncio.sleep(max(due[sent] - now(), SEND_INTERVAL_SECONDS))
    return due


def _message(request: ReservationRequest, correlation_id: str | None = None) -> Message:
    return Message(
        exchange=topology.REQUESTS,
        routing_key=topology.request_routing_key(request.movie_id),
        body=request.to_json(),
        headers={},
        mandatory=True,
        content_type="application/json",
        correlation_id=correlation_id,
    )


@asynccontextmanager
async def traffic(url: str) -> AsyncIterator[Traffic]:
    """Declare the topology, and open the connections of the clients."""
    async with (
        await connect(url, "counting") as counting,
        await connect(url, "publishing") as publishing,
    ):
        await declare_topology(counting)
        yield Traffic(
            url,
            await open_channel(counting, confirms=False),
            await open_channel(publishing, confirms=True),
        )
