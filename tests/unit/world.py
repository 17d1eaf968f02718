"""Both ends of a pipeline in memory: what it is handed, what it publishes, what it settles.

Gates hold up a commit or a publish until the test has seen what happens meanwhile.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

from tests.unit.fakes import REAL_SLEEP, FakeStore
from tests.unit.values import movie
from worker.broker.messages import Delivery, Message
from worker.rules.snapshot import TimeSlot
from worker.service.pipeline import Pipeline
from worker.service.recording import Recorder

T = TypeVar("T")

DEADLINE_SECONDS: Final = 5
"""Only a test that fails waits as long."""


async def finished(running: Awaitable[T]) -> T:
    """The result, unless it takes too long."""
    return await asyncio.wait_for(running, DEADLINE_SECONDS)


async def everything_else() -> None:
    """Let every other task run until it waits for something."""
    for _ in range(50):
        await REAL_SLEEP(0)


def delivery(tag: int, request_id: str | None = None, **fields: object) -> Delivery:
    request = {"requestId": request_id or f"r{tag}", "movieId": "heat", "timeSlotId": 1}
    return Delivery(tag=tag, body=json.dumps({**request, "numberOfPeople": 1, **fields}).encode())


class Gate:
    """Something that a test holds up, and lets go when it has seen enough."""

    def __init__(self, *, opened: bool = False) -> None:
        self.reached = asyncio.Event()
        self.opened = asyncio.Event()
        if opened:
            self.opened.set()

    async def reach(self) -> None:
        async with asyncio.timeout(DEADLINE_SECONDS):
            await self.reached.wait()

    async def pass_through(self) -> None:
        self.reached.set()
        await self.opened.wait()


@dataclass
class World:
    """Both ends of a pipeline, which note in one diary what they were asked to do."""

    batches: list[list[Delivery]]
    diary: list[str] = field(default_factory=list)
    noted: asyncio.Event = field(default_factory=asyncio.Event)
    published: list[Message] = field(default_factory=list)
    settled: list[int] = field(default_factory=list)
    failed: list[int] = field(default_factory=list)
    refusals: dict[bytes, int] = field(default_factory=dict)
    publish_error: Exception | None = None
    publish_gates: list[Gate] = field(default_factory=list)
    commit_gates: list[Gate] = field(default_factory=list)
    is_stopping: bool = False
    store: FakeStore = field(
        default_factory=lambda: FakeStore({"heat": movie(slots={1: TimeSlot(1000, 0)})})
    )

    def pipeline(self) -> Pipeline:
        self.store.between = self._before_commit
        return Pipeline(self, self, self._recorder(), batch_size=10)

    def _recorder(self) -> Recorder:
        return Recorder(self.store, is_stopping=lambda: self.is_stopping)

    async def run(self) -> Pipeline:
        pipeline = self.pipeline()
        await pipeline.run()
        return pipeline

    def note(self, line: str) -> None:
        self.diary.append(line)
        self.noted.set()

    async def until(self, line: str, times: int = 1) -> None:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while self.diary.count(line) < times:
                self.noted.clear()
                await self.noted.wait()

    async def collect(self, most: int) -> list[Delivery]:
        assert most == 10
        batch = self.batches.pop(0) if self.batches else []
        self.note(f"collected {tags(batch)}")
        return batch

    async def settle(self, batch: Collection[Delivery], failed: Collection[Delivery]) -> None:
        self.note(f"settled {tags(batch)}")
        self.settled += [d.tag for d in batch]
        self.failed += [d.tag for d in failed]

    async def publish(self, messages: Sequence[Message]) -> list[bool]:
        await _pass_first(self.publish_gates)
        if self.publish_error is not None:
            raise self.publish_error
        self.note(f"published {len(messages)}")
        self.published += messages
        return [self._takes(message) for message in messages]

    async def send(self, messages: Sequence[Message]) -> None:
        self.published += messages

    def _takes(self, message: Message) -> bool:
        left = self.refusals.get(message.body, 0)
        self.refusals[message.body] = left - 1
        return left <= 0

    async def _before_commit(self) -> None:
        await _pass_first(self.commit_gates)
        self.note("committed")

    def booked(self) -> int:
        slot = self.store.movies["heat"].time_slots[1]
        assert isinstance(slot, TimeSlot)
        return slot.booked_count


async def _pass_first(gates: list[Gate]) -> None:
    if gates:
        await gates.pop(0).pass_through()


def tags(batch: Collection[Delivery]) -> str:
    return " ".join(str(delivery.tag) for delivery in batch)
