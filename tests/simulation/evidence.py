"""What can be seen from outside the workers, in the order in which it happened.

The servers write it down, the auditor reads it. Plain values: no word of the worker's is in here,
and nothing of what a worker believes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

Document = Mapping[str, Any]


class Sent(NamedTuple):
    """The broker has taken a request from a publisher."""

    at_seconds: float
    message: int
    body: bytes


class Poisonous(NamedTuple):
    """Whoever handles a request with this id may die of it."""

    at_seconds: float
    request_id: str


class Delivered(NamedTuple):
    """The broker has handed a request to a worker; it failed so often before."""

    at_seconds: float
    message: int
    worker: str
    failures: int


class Settled(NamedTuple):
    """The broker has an acknowledgement, and has forgotten the request."""

    at_seconds: float
    message: int
    worker: str


class Discarded(NamedTuple):
    """The broker took a request out of the queue, because it failed too often."""

    at_seconds: float
    message: int


class Misused(NamedTuple):
    """The broker closed a channel because of what a worker did on it."""

    at_seconds: float
    what: str


class Published(NamedTuple):
    """The broker has a message for everybody who is bound to the exchange."""

    at_seconds: float
    exchange: str
    routing_key: str
    message_id: str | None
    headers: Mapping[str, str]
    body: bytes


class Written(NamedTuple):
    """The primary has written all of this at once: movies as they are now, None for one gone."""

    at_seconds: float
    writer: Literal["worker", "other"]
    movies: Mapping[object, Document | None]
    ledger: Mapping[str, Document]


class MajorityHas(NamedTuple):
    """The first ``writes`` writes are on a majority of the members, and so will not be undone."""

    at_seconds: float
    writes: int


class RolledBack(NamedTuple):
    """A new primary has the first ``writes`` writes, and no other was ever made."""

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
