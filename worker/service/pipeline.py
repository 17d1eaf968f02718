"""Collect, record, announce, settle: what happens to a request, in that order and no other.

A request is acknowledged only when its outcome is committed and its event confirmed, so a crash
anywhere leaves it with the broker, which delivers it again; the ledger then has its answer. The
input queue is the redo log. This module is asyncio only: it knows no driver and no socket.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Final, Protocol, get_args

from tenacity import AsyncRetrying, retry_if_result, stop_after_delay, wait_random_exponential

from contracts import OutcomeEvent, UnreadableRequest, read_request, topology
from worker.broker.messages import Delivery, Message
from worker.errors import StoreUnusable
from worker.rules.decision import Request, Reused
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
    """Where messages go: False for each one that the broker refused, and no word of a reply."""

    async def publish(self, messages: Sequence[Message]) -> list[bool]: ...
    async def send(self, messages: Sequence[Message]) -> None: ...


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

        The next batch is committed while the last one is announced; that is all the concurrency
        there is, and it keeps the events of a movie in the order of its versions. Raises, in an
        exception group, StoreUnusable or SessionLost; nothing is settled by that.
        """
        async with asyncio.TaskGroup() as tasks:
            announcing = tasks.create_task(asyncio.sleep(0))
            try:
                while batch := await self._consumer.collect(self._batch_size):
                    answers = await self._record(batch)
                    await announcing
                    announcing = tasks.create_task(self._announce_and_settle(batch, answers))
            except StoreUnusable:
                # What is in the ledger already can still be announced.
                await announcing
                raise

    async def _record(self, batch: Sequence[Delivery]) -> list[Answer]:
        """An answer for each delivery, in order; every outcome among them is in the ledger."""
        if any(delivery.is_exhausted for delivery in batch):
            return [await self._give_up(delivery) for delivery in batch]
        read = [read_request(delivery.body, delivery.content_type) for delivery in batch]
        requests: list[Request] = [r for r in read if not isinstance(r, UnreadableRequest)]
        decisions = iter(await self._recorder.record(requests))
        return [r if isinstance(r, UnreadableRequest) else next(decisions) for r in read]

    async def _give_up(self, delivery: Delivery) -> Answer:
        request = read_request(delivery.body, delivery.content_type)
        if isinstance(request, UnreadableRequest):
            return request
        outcome = await self._recorder.recorded(request)
        if isinstance(outcome, Reused):
            return outcome
        detail = f"delivered {delivery.failures} times before, and never settled"
        return GivenUp(detail, outcome)

    async def _announce_and_settle(
        self, batch: Sequence[Delivery], answers: Sequence[Answer]
    ) -> None:
        announcements = [announcement(d, a) for d, a in zip(batch, answers, strict=True)]
        refused = await self._announce(announcements)
        await self._publisher.send([m for ms in announcements for m in ms if not m.mandatory])
        await self._consumer.settle(batch, failed=[batch[index] for index in sorted(refused)])
        self._note(Counter(_kind(a) for index, a in enumerate(answers) if index not in refused))

    def _note(self, kinds: Counter[str]) -> None:
        self.answered += kinds
        dead = {kind: count for kind, count in kinds.items() if kind in DEAD_LETTER_ERRORS}
        if dead:
            log.warning("sent to %s: %s", topology.DEAD_LETTERS, dead)

    async def _announce(self, announcements: Sequence[Sequence[Message]]) -> set[int]:
        """Publish until all is confirmed or it takes too long; the positions of what is refused."""
        refused = [(i, m) for i, ms in enumerate(announcements) for m in ms if m.mandatory]

        async def publish_the_rest() -> bool:
            nonlocal refused
            taken = await self._publisher.publish([message for _, message in refused])
            refused = [entry for entry, ok in zip(refused, taken, strict=True) if not ok]
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
        return {index for index, _ in refused}


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
