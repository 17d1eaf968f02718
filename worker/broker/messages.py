"""What passes between the broker and the pipeline, as plain values: deliveries in, messages out.

No client library's type gets past ``broker``, and no decision gets into it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from contracts import topology

POISON_FAILURES: Final = 2
"""One restart of a server is no reason to doubt a request."""
ATTEMPTS_MAX: Final = topology.DELIVERY_LIMIT - 2
"""It has been tried alone a dozen times by then, and one more failure may be the broker's last."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One hand-over of a request by the broker; the same request may be delivered many times.

    Holds of the message's properties only what the contract honours. ``tag`` names the delivery
    on the channel that it came from; ``failures`` is how often it was delivered before and
    neither settled nor handed back.
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
        """Whether it failed so often that it may be what makes others fail."""
        return self.failures >= POISON_FAILURES

    @property
    def is_exhausted(self) -> bool:
        """Whether it failed so often that the broker would soon take it away without a word."""
        return self.failures >= ATTEMPTS_MAX


@dataclass(frozen=True, slots=True)
class Message:
    """A message to be published and confirmed. ``mandatory`` where it must reach a queue."""

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
