"""Collect, read, decide, commit, announce, settle: what happens to a request, in that order only.

A request is acknowledged only when the broker has confirmed its answer: the event of a committed
outcome, or a dead letter. So a crash at any point leaves it with the broker, which delivers it
again; the ledger then has its outcome, if there is one. The input queue is the redo log. This
module is asyncio only: it knows no driver and no socket.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, get_args

from tenacity import AsyncRetrying, retry_if_result, stop_after_delay, wait_random_exponential

from contracts import OutcomeEvent, UnreadableRequest, read_request, topology
from worker.broker.messages import Delivery, Message
from worker.errors import StoreUnusable
from worker.rules.decision import Decision, Request, Reused
from worker.service.announcement import Answer, GivenUp, announcement
from worker.service.recording import Recorder

log: Final = logging.getLogger(__name__)

DEAD_LETTER_ERRORS: Final = frozenset(get_args(topology.DeadLetterError))

REFUSED_PUBLISH_SECONDS: Final = 30
"""How long refused messages are published again: a subscriber's full queue may drain meanwhile."""
REFUSED_PUBLISH_WAIT_SECONDS: Final = 2


class RequestConsumer(Protocol):
    """Where deliveries come from, and where they are settled."""

    async def collect(self, most: int) -> list[Delivery]: ...
    async def settle(self, batch: Collection[Delivery], failed: Collection[Delivery]) -> None: ...


class EventPublisher(Protocol):
    """Where messages go. ``publish`` says of each whether the broker took it, ``send`` does not."""

    async def publish(self, messages: Sequence[Message]) -> list[bool]: ...
    async def send(self, messages: Sequence[Message]) -> None: ...


@dataclass(frozen=True, slots=True)
class _Batch:
    """Deliveries that are answered together, and what is in each of them."""

    deliveries: Sequence[Delivery]
    contents: Sequence[Request | UnreadableRequest]

    def requests(self) -> list[Request]:
        """The requests that are to be decided."""
        return [
            content
            for delivery, content in zip(self.deliveries, self.contents, strict=True)
            if not isinstance(content, UnreadableRequest) and not delivery.is_exhausted
        ]


class Pipeline:
    """Carries deliveries through one session; what it has not settled belongs to the broker."""

    def __init__(
        self,
        consumer: RequestConsumer,
        publisher: EventPublisher,
        recorder: Recorder,
        batch_size: int,
    ) -> None:
        self._consumer = consumer
        self._publisher = publisher
        self._recorder = recorder
        self._batch_size = batch_size
        self.answered: Counter[str] = Counter()

    async def run(self) -> None:
        """Carry batches until the consumer is stopped, and finish those under way.

        The next batch is committed while the last one is announced. That is all the concurrency
        there is, and it keeps the events of a movie in the order of its versions. Raises, in an
        exception group, StoreUnusable or SessionLost. Neither settles anything.
        """
        async with asyncio.TaskGroup() as tasks:
            announcing = tasks.create_task(asyncio.sleep(0))  # There is nothing to announce yet.
            try:
                while batch := await self._collect():
                    attempts = self._recorder.attempts(batch.requests())
                    # For each part of the batch, and again after each failure, which it swallows.
                    async for attempt in attempts:
                        with attempt:
                            snapshot = await attempt.read()
                            decided = attempt.decide(snapshot)
                            await attempt.commit(decided)
                    answers = await self._answers(batch, attempts.decisions)
                    await announcing
                    announcing = tasks.create_task(self._announce_and_settle(batch, answers))
            except StoreUnusable:
                # What is in the ledger already can still be announced.
                await announcing
                raise

    async def _collect(self) -> _Batch | None:
        deliveries = await self._consumer.collect(self._batch_size)
        contents = [read_request(d.body, d.content_type) for d in deliveries]
        return _Batch(deliveries, contents) if deliveries else None

    async def _answers(self, batch: _Batch, decisions: Sequence[Decision]) -> list[Answer]:
        """An answer for each delivery, in order; every outcome among them is in the ledger."""
        decided = iter(decisions)
        answers: list[Answer] = []
        for delivery, content in zip(batch.deliveries, batch.contents, strict=True):
            if isinstance(content, UnreadableRequest):
                answers.append(content)
            elif delivery.is_exhausted:
                answers.append(await self._give_up(delivery, content))
            else:
                answers.append(next(decided))
        return answers

    async def _give_up(self, delivery: Delivery, request: Request) -> Answer:
        """The answer to a delivery that has failed too often for another attempt."""
        outcome = await self._recorder.earlier_answer(request)
        if isinstance(outcome, Reused):
            return outcome
        detail = f"delivered {delivery.failures} times before, and never settled"
        return GivenUp(detail, outcome)

    async def _announce_and_settle(self, batch: _Batch, answers: Sequence[Answer]) -> None:
        refused = await self._announce(batch, answers)
        failed = [batch.deliveries[position] for position in sorted(refused)]
        await self._consumer.settle(batch.deliveries, failed=failed)
        self._note(Counter(_kind(a) for p, a in enumerate(answers) if p not in refused))

    async def _announce(self, batch: _Batch, answers: Sequence[Answer]) -> set[int]:
        """Publish what follows from the answers; the positions of what the broker refused."""
        announcements = [announcement(d, a) for d, a in zip(batch.deliveries, answers, strict=True)]
        refused = await self._publish(
            [(p, m) for p, messages in enumerate(announcements) for m in messages if m.mandatory]
        )
        await self._publisher.send([m for ms in announcements for m in ms if not m.mandatory])
        return refused

    def _note(self, kinds: Counter[str]) -> None:
        self.answered += kinds
        dead = {kind: count for kind, count in kinds.items() if kind in DEAD_LETTER_ERRORS}
        if dead:
            log.warning("sent to %s: %s", topology.DEAD_LETTERS, dead)

    async def _publish(self, messages: Sequence[tuple[int, Message]]) -> set[int]:
        """Publish until all is confirmed or it takes too long; the positions of what was
        refused."""
        refused = list(messages)

        async def publish_the_rest() -> bool:
            nonlocal refused
            confirmed = await self._publisher.publish([message for _, message in refused])
            refused = [entry for entry, ok in zip(refused, confirmed, strict=True) if not ok]
            return not refused

        retrying = AsyncRetrying(
            retry=retry_if_result(lambda all_confirmed: not all_confirmed),
            wait=wait_random_exponential(0.05, REFUSED_PUBLISH_WAIT_SECONDS),
            stop=stop_after_delay(REFUSED_PUBLISH_SECONDS),
            before_sleep=lambda state: log.warning(
                "the broker refused %d messages, publishing them again in %.2f s",
                len(refused),
                state.upcoming_sleep,
            ),
            retry_error_callback=lambda _state: False,
        )
        await retrying(publish_the_rest)
        return {position for position, _ in refused}


def _kind(answer: Answer) -> str:
    match answer:
        case OutcomeEvent():
            return answer.reason or answer.outcome
        case Reused():
            return "request_id_reused"
        case UnreadableRequest():
            return "unreadable_request"
        case _:
            return "undeliverable"
