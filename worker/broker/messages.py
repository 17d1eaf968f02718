"""The plain values that pass between the broker and the pipeline: deliveries in, messages out.

No type of the client library leaves ``broker``, and no decision enters it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from contracts import topology

POISON_FAILURES: Final = 2
"""More than one, because the restart of a server is no reason to doubt a request."""
ATTEMPTS_MAX: Final = topology.DELIVERY_LIMIT - 2
"""By then it has been tried alone a dozen times, and RabbitMQ may not deliver it once more."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One hand-over of a request by the broker; the same request may be delivered many times.

    Of the message's properties it holds only those that the contract honours. ``tag`` identifies
    the delivery on the channel it came from. ``failures`` is how often the request was delivered
    before and neither settled nor handed back.
    """

    tag: int
    body: bytes
    routing_key: str = ""
    failures: int = 0
    content_type: str | None = None
    content_encoding: str | None = None
    correlation_id: str | None = None
    reply_to: str | None = None
    trace_context: Mapping[str, str] | None = None

    @property
    def may_be_poison(self) -> bool:
        """Whether it failed so often that it may be the reason why others fail."""
        return self.failures >= POISON_FAILURES

    @property
    def is_exhausted(self) -> bool:
        """Whether it failed so often that RabbitMQ would soon dead-letter it by itself."""
        return self.failures >= ATTEMPTS_MAX


@dataclass(frozen=True, slots=True)
class Message:
    """A message to be published and confirmed; one that is ``mandatory`` must reach a queue."""

    exchange: str
    routing_key: str
    body: bytes
    headers: Mapping[str, str]
    mandatory: bool
    content_type: str | None = None
    content_encoding: str | None = None
    correlation_id: str | None = None
    reply_to: str | None = None
    message_id: str | None = None
    type: str | None = None
    timestamp: datetime | None = None
