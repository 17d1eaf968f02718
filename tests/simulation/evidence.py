"""The facts that can be seen from outside the workers, recorded in the order they happened.

The servers record them and the auditor reads them. Plain values that use no type of the worker's,
and hold nothing of what a worker believes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

Document = Mapping[str, Any]


class Sent(NamedTuple):
    """The broker has received a request from a publisher."""

    at_seconds: float
    message: int
    body: bytes


class Poisonous(NamedTuple):
    """A worker that handles a request with this id may die of it."""

    at_seconds: float
    request_id: str


class Delivered(NamedTuple):
    """The broker has delivered a request to a worker, after ``failures`` failed attempts."""

    at_seconds: float
    message: int
    worker: str
    failures: int


class Settled(NamedTuple):
    """The broker has received an acknowledgement, and removed the request."""

    at_seconds: float
    message: int
    worker: str


class Discarded(NamedTuple):
    """The broker has removed a request from the queue, because it failed too often."""

    at_seconds: float
    message: int


class Misused(NamedTuple):
    """The broker has closed a channel because of what a worker did on it."""

    at_seconds: float
    what: str


class Published(NamedTuple):
    """The broker has routed a message to every queue bound to the exchange."""

    at_seconds: float
    exchange: str
    routing_key: str
    message_id: str | None
    headers: Mapping[str, str]
    body: bytes


class Written(NamedTuple):
    """The primary has written all of this atomically: movies as they are now, None if deleted."""

    at_seconds: float
    writer: Literal["worker", "other"]
    movies: Mapping[object, Document | None]
    ledger: Mapping[str, Document]


class MajorityHas(NamedTuple):
    """The first ``writes`` writes are on a majority of members, so are never rolled back."""

    at_seconds: float
    writes: int


class RolledBack(NamedTuple):
    """A new primary has only the first ``writes`` writes; the others are undone."""

    at_seconds: float
    writes: int


Fact = (
    Sent
    | Poisonous
    | Delivered
    | Settled
    | Discarded
    | Misused
    | Published
    | Written
    | MajorityHas
    | RolledBack
)
