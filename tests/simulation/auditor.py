"""The auditor: goes through all facts, rebuilds what must be true, and reports what is not.

I1: no slot holds more than its capacity. I2: bookings are those of the confirmed entries, and are
written with them. I3: there is one entry for each request id, true when it was decided, and every
event carries it. I4: first a majority has the entry, then the event is published, then the request
is acknowledged. I5: each request is settled once, and never lost. I6: the version grows by one for
each change.

Shares no code with the worker, and does not import it; a test holds this.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, Final

from tests.simulation.evidence import (
    Delivered,
    Discarded,
    Fact,
    MajorityHas,
    Misused,
    Poisonous,
    Published,
    RolledBack,
    Sent,
    Settled,
    Written,
)
from tests.simulation.history import Requests, WriteHistory
from tests.simulation.oracle import Request, event_of, is_recorded_as, is_undecidable

FAILURES_BY_POISON: Final = 10
"""Failures after which a request may be given up: the contract says it *keeps* failing."""

EVENTS: Final = "reservations.events"
DEAD_LETTERS: Final = "reservations.dead-letters"


class Auditor:
    """Checks the facts one by one; ``findings`` holds everything that is wrong."""

    def __init__(self, clock_start: datetime) -> None:
        self.findings: list[str] = []
        self._at_seconds = 0.0
        self._requests = Requests()
        self._history = WriteHistory(self._requests, clock_start)
        self._settled: Counter[int] = Counter()
        self._discarded: set[int] = set()
        self._published: Counter[str] = Counter()
        self._dead_letters: Counter[tuple[str, object]] = Counter()
        self._answered: Counter[object] = Counter()
        self._handlers: Mapping[type[Fact], Callable[[Any], None]] = {
            Sent: self._requests.on_sent,
            Poisonous: self._requests.on_poisonous,
            Delivered: self._requests.on_delivered,
            Settled: self._on_settled,
            Discarded: self._on_discarded,
            Misused: self._on_misused,
            Published: self._on_published,
            Written: self._on_written,
            MajorityHas: self._history.on_majority,
            RolledBack: self._history.on_rolled_back,
        }

    def observe(self, fact: Fact) -> None:
        """Check the next fact."""
        self._at_seconds = fact.at_seconds
        self._handlers[type(fact)](fact)

    def close(self) -> list[str]:
        """Check what must hold at the end; returns all findings."""
        for message, body in self._requests.bodies.items():
            if self._settled[message] != 1 and message not in self._discarded:
                self._find(f"I5: settled {self._settled[message]} times: {message}, {body!r}")
        if self._history.has_unreplicated_writes:
            self._find("the last writes are not on a majority")
        given_up = {self._requests.parsed(self._requests.bodies[m]) for m in self._discarded}
        given_up_ids = {request.request_id for request in given_up if request is not None}
        for request_id in self._history.majority.ledger.keys() - given_up_ids:
            if not self._published[request_id]:
                self._find(f"I4: {request_id} was never announced")
        return self.findings

    def _find(self, what: str) -> None:
        self.findings.append(f"at {self._at_seconds:.4f} s: {what}")

    def _on_settled(self, fact: Settled) -> None:
        self._settled[fact.message] += 1
        body = self._requests.bodies[fact.message]
        request = self._requests.parsed(body)
        key, answers = self._answers(body, request)
        self._answered[key] += 1
        if answers < self._answered[key]:
            self._find(
                f"I4: acknowledged {self._answered[key]} times, answered {answers} times: {body!r}"
            )

    def _answers(self, body: bytes, request: Request | None) -> tuple[object, int]:
        """What identifies requests with the same answer, and how often that was published."""
        if request is None:
            return body, self._dead_letters["unreadable_request", body]
        key = (request.request_id, request.content)
        given_up = self._dead_letters["undeliverable", key]
        entry = self._history.majority.ledger.get(request.request_id)
        if entry is None:
            return key, given_up
        if not is_recorded_as(request, entry):
            return key, given_up + self._dead_letters["request_id_reused", key]
        answers = self._published[request.request_id]
        if request.invalid_fields:
            answers = min(answers, self._dead_letters["invalid_request", key])
        return key, given_up + answers

    def _on_discarded(self, fact: Discarded) -> None:
        request = self._requests.parsed(self._requests.bodies[fact.message])
        self._discarded.add(fact.message)
        # Only poison that meets other faults as well may reach the broker's delivery limit.
        if request is None or request.request_id not in self._requests.poisonous:
            self._find(f"I5: the broker discarded message {fact.message}")

    def _on_misused(self, fact: Misused) -> None:
        self._find(f"I5: {fact.what}")

    def _on_written(self, fact: Written) -> None:
        for finding in self._history.on_written(fact):
            self._find(finding)

    def _on_published(self, fact: Published) -> None:
        if fact.exchange == DEAD_LETTERS:
            self._on_dead_letter(fact)
            return
        event = json.loads(fact.body)
        entry = self._history.majority.ledger.get(event["requestId"])
        if entry is None:
            self._find(f"I4: announced, but no majority has an entry: {event}")
        elif event != event_of(entry):
            self._find(f"I3: announced as {event}, recorded as {entry}")
        if fact.exchange != EVENTS:
            return
        self._published[event["requestId"]] += 1
        name = f"{event['requestId']}:{event['outcome']}"
        key = f"reservation.{event['outcome']}.{event.get('movieId', 'invalid')}"
        if (fact.message_id, fact.headers.get("ce-id"), fact.routing_key) != (name, name, key):
            self._find(f"{name} was published as {fact.message_id} to {fact.routing_key}")

    def _on_dead_letter(self, fact: Published) -> None:
        error = fact.headers.get("x-reservation-error", "no error")
        request = self._requests.parsed(fact.body)
        key: object = fact.body if request is None else (request.request_id, request.content)
        self._dead_letters[error, key] += 1
        if not self._has_cause(error, request):
            self._find(f"dead letter {error} without a cause: {fact.body!r}")

    def _has_cause(self, error: str, request: Request | None) -> bool:
        if error == "unreadable_request" or request is None:
            return error == "unreadable_request" and request is None
        entry = self._history.majority.ledger.get(request.request_id)
        match error:
            case "invalid_request":
                return (
                    entry is not None
                    and bool(request.invalid_fields)
                    and is_recorded_as(request, entry)
                )
            case "request_id_reused":
                return entry is not None and not is_recorded_as(request, entry)
            case "undeliverable":
                if self._has_failed_by_poison(request):
                    return entry is None or self._published[request.request_id] > 0
                return any(
                    is_undecidable(request, movie)
                    for movie in self._history.movies_had(request, self._at_seconds)
                )
        return False

    def _has_failed_by_poison(self, request: Request) -> bool:
        failures = self._requests.failures[request.request_id]
        return request.request_id in self._requests.poisonous and failures >= FAILURES_BY_POISON


def audit(journal: Iterable[Fact], clock_start: datetime) -> list[str]:
    """Everything that is wrong with these facts; an empty list if all is well."""
    auditor = Auditor(clock_start)
    for fact in journal:
        auditor.observe(fact)
    return auditor.close()
