"""One attempt to record a batch: what it reads, which time it has, and how it is counted."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import UTC, timedelta

import pytest

from contracts import OutcomeEvent
from tests.unit.fakes import FakeStore, VirtualTime, record
from tests.unit.values import NOW, ask, faulty, movie
from worker.errors import Conflict, StoreUnusable, WorkerError
from worker.rules.snapshot import Snapshot
from worker.service.contention import LOSING_STREAK
from worker.service.recording import FIRST_WAIT_SECONDS, Recorder


@dataclass
class ObservedStore(FakeStore):
    """Notes what it is asked for."""

    asked: list[tuple[set[str], set[str]]] = field(default_factory=list)

    async def read(self, movie_ids: Collection[str], request_ids: Collection[str]) -> Snapshot:
        self.asked.append((set(movie_ids), set(request_ids)))
        return await super().read(movie_ids, request_ids)


class UnabortableStore(FakeStore):
    """Loses the connection to MongoDB while it looks for abandoned transactions."""

    async def abort_abandoned_transactions(self) -> None:
        raise StoreUnusable


async def test_only_the_movies_and_requests_of_the_batch_are_read() -> None:
    store = ObservedStore({"heat": movie()})
    await record(Recorder(store), [ask("a"), ask("b", movie="jaws"), faulty("c", field="movieId")])
    assert store.asked == [({"heat", "jaws"}, {"a", "b", "c"})]


async def test_a_batch_of_nothing_reads_nothing() -> None:
    store = ObservedStore()
    assert await record(Recorder(store), []) == []
    assert store.asked == []


async def test_a_decision_has_the_time_of_the_machine_in_utc() -> None:
    (outcome,) = await record(Recorder(FakeStore({"heat": movie()})), [ask()])
    assert isinstance(outcome, OutcomeEvent)
    assert outcome.decided_at.utcoffset() == timedelta(0)
    assert outcome.decided_at.tzinfo is UTC


@pytest.mark.parametrize(("microseconds", "kept"), [(0, 0), (999, 0), (1000, 1000), (2001, 2000)])
def test_each_full_millisecond_of_a_time_is_kept(microseconds: int, kept: int) -> None:
    recorder = Recorder(FakeStore(), clock=lambda: NOW.replace(microsecond=microseconds))
    assert recorder.now() == NOW.replace(microsecond=kept)


async def test_each_commit_is_counted() -> None:
    recorder = Recorder(FakeStore({"heat": movie()}))
    for name in "abc":
        await record(recorder, [ask(name, people=1)])
    assert (recorder.tally.commits, recorder.tally.conflicts) == (3, 0)


async def test_the_first_wait_is_a_few_milliseconds(virtual_time: VirtualTime) -> None:
    first_waits = []
    for _ in range(30):
        virtual_time.slept_seconds.clear()
        store = FakeStore({"heat": movie()}, failures=deque([StoreUnusable()]))
        await record(Recorder(store), [ask()])
        first_waits += virtual_time.slept_seconds
    assert len(first_waits) == 30
    assert max(first_waits) <= FIRST_WAIT_SECONDS < 0.01


async def test_a_failure_to_abort_does_not_look_like_an_outage(
    virtual_time: VirtualTime,
) -> None:
    """An outage would not be waited for during a stop."""
    lost_races = deque[WorkerError]([Conflict()] * LOSING_STREAK)
    store = UnabortableStore({"heat": movie()}, failures=lost_races)
    (outcome,) = await record(Recorder(store, is_stopping=lambda: True), [ask()])
    assert outcome == store.ledger["r1"]
    assert len(virtual_time.slept_seconds) == LOSING_STREAK


async def test_an_outage_that_lasts_ends_with_its_own_failure() -> None:
    failure = StoreUnusable("no primary")
    store = FakeStore({"heat": movie()}, always=failure)
    with pytest.raises(StoreUnusable) as raised:
        await record(Recorder(store, is_stopping=lambda: True), [ask()])
    assert raised.value is failure
