"""Recording a batch in partitions: what is postponed, what is waited for, and in which order."""

from __future__ import annotations

import random
from collections import deque
from typing import Final

from contracts import OutcomeEvent
from tests.unit.fakes import FakeStore, VirtualTime, record
from tests.unit.values import ask, movie
from worker.errors import Conflict, Refused, StoreUnusable
from worker.rules.snapshot import TimeSlot
from worker.service.contention import PARTITIONS_MAX
from worker.service.recording import Recorder

MOVIES: Final = [f"movie-{number}" for number in range(20)]


def store_of_movies() -> FakeStore:
    return FakeStore({name: movie(key=name, slots={1: TimeSlot(100, 0)}) for name in MOVIES})


def recorder_with_partitions(store: FakeStore) -> Recorder:
    recorder = Recorder(store, chance=random.Random(1))
    for _ in range(9):
        recorder.contention.note_conflict([])
    return recorder


BATCH: Final = [ask(str(number), movie=MOVIES[number % 20]) for number in range(100)]


async def test_decisions_are_in_the_order_of_the_requests() -> None:
    store = store_of_movies()
    decisions = await record(recorder_with_partitions(store), BATCH)
    assert len(store.tried) == PARTITIONS_MAX
    assert [d.request_id for d in decisions if isinstance(d, OutcomeEvent)] == [
        request.request_id for request in BATCH
    ]


async def test_a_partition_that_lost_is_tried_again_after_the_others(
    virtual_time: VirtualTime,
) -> None:
    for failure in (Conflict(), Refused()):
        store = store_of_movies()
        store.failures = deque([failure])
        await record(recorder_with_partitions(store), BATCH)
        assert store.tried[0] == store.tried[-1]
        assert len(store.tried) == PARTITIONS_MAX + 1
        assert len(store.ledger) == len(BATCH)
    assert virtual_time.slept_seconds == []


async def test_one_of_two_partitions_is_tried_after_the_other() -> None:
    store = store_of_movies()
    store.failures = deque([Conflict()])
    recorder = Recorder(store, chance=random.Random(1))
    recorder.contention.note_conflict([])
    await record(recorder, BATCH)
    first, other, again = store.tried
    assert first == again
    assert sorted(first + other) == sorted(request.request_id for request in BATCH)


async def test_a_partition_that_loses_again_is_not_postponed_again(
    virtual_time: VirtualTime,
) -> None:
    store = store_of_movies()
    store.failures = deque([Conflict()])

    async def lose_the_last_one_again() -> None:
        if len(store.tried) == PARTITIONS_MAX + 1:
            store.failures.append(Conflict())

    store.between = lose_the_last_one_again
    await record(recorder_with_partitions(store), BATCH)
    assert len(store.tried) == PARTITIONS_MAX + 2
    assert store.tried[0] == store.tried[-2] == store.tried[-1]
    assert len(virtual_time.slept_seconds) == 1


async def test_an_outage_is_waited_for_in_the_partition_that_met_it(
    virtual_time: VirtualTime,
) -> None:
    store = store_of_movies()
    store.failures = deque([StoreUnusable()] * 3)
    await record(recorder_with_partitions(store), BATCH)
    assert store.tried[0] == store.tried[1] == store.tried[2] == store.tried[3]
    assert len(store.tried) == PARTITIONS_MAX + 3
    assert len(store.ledger) == len(BATCH)
    assert virtual_time.slept_seconds


async def test_a_request_id_used_for_two_movies_is_recorded_once() -> None:
    store = store_of_movies()
    decisions = await record(
        recorder_with_partitions(store), [*BATCH, *(ask("0", movie=name) for name in MOVIES)]
    )
    outcomes = [d for d in (decisions[0], *decisions[100:]) if isinstance(d, OutcomeEvent)]
    assert len({outcome.movie_id for outcome in outcomes}) == 1
    assert {outcome.request_id for outcome in outcomes} == {"0"}
