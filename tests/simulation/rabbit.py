"""The broker in memory: the queue of requests, its consumers, and published messages.

Follows RabbitMQ's rules that the worker relies on: prefetch, redelivery with a count, the delivery
limit, the consumer timeout, acknowledgements of everything up to a tag, confirms in any order, and
channels that are closed for a protocol error. Knows nothing of the worker.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from tests.simulation.evidence import (
    Delivered,
    Discarded,
    Misused,
    Published,
    Sent,
    Settled,
)
from tests.simulation.frames import Incoming, messages_in
from tests.simulation.world import World

DELIVERY_LIMIT: Final = 20
CONFIRM_LATE_SECONDS_MAX: Final = 60
MULTIPLE_CONFIRMS_SHARE: Final = 0.3
"""The share of confirms that confirm all messages before them as well."""
ROUTED_THOUGH_REFUSED_SHARE: Final = 0.3
"""The share of refused messages that some of the queues accepted nevertheless."""


@dataclass(eq=False, slots=True)
class Queued:
    """A request in the queue."""

    number: int
    body: bytes
    reply_to: str | None = None
    failures: int = 0
    is_redelivered: bool = False


@dataclass(eq=False, slots=True)
class Channel:
    """The broker's end of a channel. ``send`` sends something to the worker's end."""

    owner: str
    send: Callable[..., object]
    is_open: bool = True
    is_consuming: bool = False
    prefetch: int = 0
    """Of the present consumer, whose first delivery came after tag ``consuming_since``."""
    consuming_since: int = 0
    delivered: int = 0
    unsettled: dict[int, Queued] = field(default_factory=dict)
    published: int = 0
    unconfirmed: dict[int, bool] = field(default_factory=dict)
    """Whether each message is refused, by its delivery tag."""

    @property
    def wants_more(self) -> bool:
        """Whether its consumer may have another delivery."""
        held = sum(tag > self.consuming_since for tag in self.unsettled)
        return self.is_consuming and held < self.prefetch


class Rabbit:
    """One broker, which requests reach without latency."""

    def __init__(
        self, world: World, consumer_timeout_seconds: float, *, nack_is_failure: bool
    ) -> None:
        self._world = world
        self._consumer_timeout_seconds = consumer_timeout_seconds
        self._nack_is_failure = nack_is_failure
        self._queue: deque[Queued] = deque()
        self._channels: list[Channel] = []
        self._sent = 0
        self._blocked: deque[tuple[Channel, bytes]] | None = None
        self.unsettled = 0
        self.is_up = True
        self.on_settled: Callable[[], object] = lambda: None

    def send(self, body: bytes, reply_to: str | None) -> None:
        """Enqueue a request from a publisher."""
        self._sent += 1
        self.unsettled += 1
        self._queue.append(Queued(self._sent, body, reply_to))
        self._world.record(Sent(self._world.now_seconds, self._sent, body))
        self._dispatch()

    def come_up(self) -> None:
        """Accept connections again."""
        self.is_up = True

    def open(self, owner: str, send: Callable[..., object]) -> Channel:
        """Open a channel for a worker."""
        channel = Channel(owner, send)
        self._channels.append(channel)
        return channel

    def consume(self, channel: Channel, prefetch: int) -> None:
        """Start a consumer with this prefetch."""
        channel.prefetch = prefetch
        channel.consuming_since = channel.delivered
        channel.is_consuming = True
        self._dispatch()

    def cancel(self, channel: Channel) -> None:
        """Stop the consumer of this channel."""
        channel.is_consuming = False

    def counts(self) -> tuple[int, int]:
        """The number of requests waiting in the queue, and of consumers."""
        return len(self._queue), sum(channel.is_consuming for channel in self._channels)

    def close(self, channel: Channel) -> None:
        """Close the channel, and requeue what was unsettled on it."""
        if channel.is_open:
            channel.is_open = channel.is_consuming = False
            self._channels.remove(channel)
            self._requeue(channel, list(channel.unsettled), counts=True)

    def acknowledge(self, channel: Channel, tag: int, *, multiple: bool) -> None:
        """Settle a delivery, or all up to it."""
        for settled in self._unsettled_tags(channel, tag, multiple=multiple):
            queued = channel.unsettled.pop(settled)
            self.unsettled -= 1
            self._world.record(Settled(self._world.now_seconds, queued.number, channel.owner))
        self.on_settled()
        self._dispatch()

    def reject(self, channel: Channel, tag: int) -> None:
        """Requeue a delivery that failed."""
        self._world.incident("delivery returned as failed")
        self._requeue(channel, self._unsettled_tags(channel, tag, multiple=False), counts=True)

    def hand_back(self, channel: Channel, tag: int) -> None:
        """Requeue deliveries not worked on; RabbitMQ before 4.3 counts that as a failure."""
        self._world.incident("deliveries handed back")
        tags = self._unsettled_tags(channel, tag, multiple=True)
        self._requeue(channel, tags, counts=self._nack_is_failure)

    def publish(self, channel: Channel, payload: bytes) -> None:
        """Publish the messages in these frames; a blocked broker does not read them yet."""
        if self._blocked is not None:
            self._world.incident("publisher blocked")
            self._blocked.append((channel, payload))
            return
        if channel.is_open:
            for message in messages_in(payload):
                self._route(channel, message)

    def block(self) -> None:
        """Read nothing from publishers until unblocked, as when memory or disk run short."""
        if self._blocked is None:
            self._blocked = deque()

    def unblock(self) -> None:
        """Read from publishers again."""
        waiting, self._blocked = self._blocked or (), None
        for channel, payload in waiting:
            self.publish(channel, payload)

    def _route(self, channel: Channel, message: Incoming) -> None:
        world = self._world
        channel.published += 1
        tag, delay = channel.published, world.latency_seconds()
        is_refused = message.exchange != "" and world.comes(world.fault_rates.publish_refused)
        if is_refused:
            world.incident("publish refused")
        if not is_refused or world.comes(ROUTED_THOUGH_REFUSED_SHARE):
            world.record(
                Published(
                    world.now_seconds,
                    message.exchange,
                    message.routing_key,
                    message.properties.get("message_id"),
                    message.headers,
                    message.body,
                )
            )
        if world.comes(world.fault_rates.confirm_late):
            world.incident("confirm late")
            delay = CONFIRM_LATE_SECONDS_MAX * world.chance.random()
        channel.unconfirmed[tag] = is_refused
        world.after(delay, self._confirm, channel, tag)

    def _confirm(self, channel: Channel, tag: int) -> None:
        """Confirm one message, or all up to it."""
        if tag not in channel.unconfirmed:
            return
        if not channel.is_open:
            self._world.incident("confirm lost")
        else:
            is_refused = channel.unconfirmed[tag]
            earlier = [t for t in channel.unconfirmed if t < tag]
            multiple = self._world.comes(MULTIPLE_CONFIRMS_SHARE) and all(
                channel.unconfirmed[t] == is_refused for t in earlier
            )
            for confirmed in [*earlier, tag] if multiple else [tag]:
                del channel.unconfirmed[confirmed]
            channel.send("confirm", tag, multiple, is_refused)

    def _dispatch(self) -> None:
        while self._queue:
            free = [channel for channel in self._channels if channel.wants_more]
            if not free:
                return
            self._deliver(self._world.chance.choice(free), self._queue.popleft())

    def _deliver(self, channel: Channel, queued: Queued) -> None:
        channel.delivered += 1
        tag = channel.delivered
        channel.unsettled[tag] = queued
        if queued.failures:
            self._world.incidents["redelivery"] += 1
        now = self._world.now_seconds
        self._world.record(Delivered(now, queued.number, channel.owner, queued.failures))
        channel.send("deliver", tag, queued)
        self._world.after(self._consumer_timeout_seconds, self._time_out, channel, tag, queued)

    def _time_out(self, channel: Channel, tag: int, queued: Queued) -> None:
        if channel.is_open and channel.unsettled.get(tag) is queued:
            self._world.incident("consumer timeout")
            self.close_with_error(
                channel, "PRECONDITION_FAILED - delivery acknowledgement timed out"
            )

    def close_with_error(self, channel: Channel, why: str) -> None:
        """Close a channel from the broker's side, as after a protocol error."""
        if channel.is_open:
            self.close(channel)
            channel.send("closed", why)

    def _unsettled_tags(self, channel: Channel, tag: int, *, multiple: bool) -> list[int]:
        """The unsettled deliveries that are meant; an unknown tag closes the channel."""
        if not channel.is_open:
            return []
        tags = [t for t in channel.unsettled if t <= tag] if multiple else [tag]
        if not tags or tag not in channel.unsettled:
            self._world.record(
                Misused(self._world.now_seconds, f"delivery {tag} was settled, but is unknown")
            )
            self.close_with_error(channel, f"PRECONDITION_FAILED - unknown delivery tag {tag}")
            return []
        return tags

    def _requeue(self, channel: Channel, tags: list[int], *, counts: bool) -> None:
        """Requeue at the front, in the original order; discard what has failed too often."""
        returned = [channel.unsettled.pop(tag) for tag in tags]
        for queued in sorted(returned, key=lambda queued: -queued.number):
            queued.is_redelivered = True
            queued.failures += counts
            if queued.failures > DELIVERY_LIMIT:
                self.unsettled -= 1
                self._world.record(Discarded(self._world.now_seconds, queued.number))
            else:
                self._queue.appendleft(queued)
        self.on_settled()
        self._dispatch()
