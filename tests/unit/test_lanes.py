"""Parting a batch by movie: nothing is lost, movies stay whole, and the number follows the luck."""

from __future__ import annotations

import random
from collections import deque
from typing import Final

from hypothesis import given
from hypothesis import strategies as st

from contracts import OutcomeEvent
from tests.unit.fakes import FakeStore, VirtualTime
from tests.unit.values import ask, faulty, movie
from worker.errors import Conflict, Refused, StoreUnusable
from worker.rules.decision import Request
from worker.rules.snapshot import TimeSlot
from worker.service.lanes import LANES_MAX, QUIET_COMMITS, REQUESTS_PER_LANE_MIN, Lanes
from worker.service.recording import Recorder

REQUESTS: Final = st.lists(
    st.builds(ask, movie=st.integers(0, 30).map(str)) | st.builds(faulty, field=st.just("movieId")),
    max_size=200,
)


def lanes_after(conflicts: int, seed: int = 1) -> Lanes:
    lanes = Lanes(random.Random(seed))
    for _ in range(conflicts):
        lanes.note_conflict()
    return lanes


@given(REQUESTS, st.integers(0, 5), st.integers())
def test_each_request_is_in_one_lane_in_its_order_and_each_movie_in_one(
    requests: list[Request], conflicts: int, seed: int
) -> None:
    parted = lanes_after(conflicts, seed).part(requests)
    assert sorted(position for lane in parted for position in lane) == list(range(len(requests)))
    assert all(lane == sorted(lane) for lane in parted)
    movies = [{requests[position].movie_id for position in lane} for lane in parted]
    assert sum(map(len, movies)) == len(set[str | None]().union(*movies))


def test_a_worker_that_is_alone_commits_whole_batches() -> None:
    requests = [ask(movie=str(number)) for number in range(500)]
    assert lanes_after(0).part(requests) == [list(range(500))]


def test_conflicts_make_more_lanes_up_to_a_number_and_quiet_makes_fewer() -> None:
    lanes = lanes_after(0)
    counts = []
    for _ in range(6):
        lanes.note_conflict()
        counts.append(lanes.count)
    assert counts == sorted(counts)
    assert counts[0] == 2
    assert counts[-1] == LANES_MAX
    for _ in range(QUIET_COMMITS - 1):
        lanes.note_commit()
    assert lanes.count == LANES_MAX
    for _ in range(10 * QUIET_COMMITS):
        lanes.note_commit()
    assert lanes.count == 1


def test_a_small_batch_is_not_parted() -> None:
    requests = [ask(movie=str(number)) for number in range(2 * REQUESTS_PER_LANE_MIN - 1)]
    assert len(lanes_after(9).part(requests)) == 1


def test_every_process_has_the_same_lanes_in_an_order_of_its_own() -> None:
    requests = [ask(movie=str(number)) for number in range(200)]
    parted = [lanes_after(9, seed).part(requests) for seed in range(20)]
    assert len({frozenset(map(tuple, lanes)) for lanes in parted}) == 1
    assert len({tuple(map(tuple, lanes)) for lanes in parted}) > 1


MOVIES: Final = [f"movie-{number}" for number in range(20)]


def store_of_movies() -> FakeStore:
    return FakeStore({name: movie(key=name, slots={1: TimeSlot(100, 0)}) for name in MOVIES})


def recorder_with_lanes(store: FakeStore) -> Recorder:
    recorder = Recorder(store, chance=random.Random(1))
    for _ in range(9):
        recorder._lanes.note_conflict()
    return recorder


BATCH: Final = [ask(str(number), movie=MOVIES[number % 20]) for number in range(100)]


async def test_decisions_come_in_the_order_of_the_requests_though_lanes_do_not() -> None:
    store = store_of_movies()
    decisions = await recorder_with_lanes(store).record(BATCH)
    assert len(store.tried) == LANES_MAX
    assert [d.request_id for d in decisions if isinstance(d, OutcomeEvent)] == [
        request.request_id for request in BATCH
    ]


async def test_a_lost_lane_is_tried_again_when_the_others_are_done(
    virtual_time: VirtualTime,
) -> None:
    for failure in (Conflict(), Refused()):
        store = store_of_movies()
        store.failures = deque([failure])
        await recorder_with_lanes(store).record(BATCH)
        assert store.tried[0] == store.tried[-1]
        assert len(store.tried) == LANES_MAX + 1
        assert len(store.ledger) == len(BATCH)
    assert virtual_time.slept_seconds == []


async def test_an_outage_is_waited_for_in_the_lane_that_met_it(virtual_time: VirtualTime) -> None:
    store = store_of_movies()
    store.failures = deque([StoreUnusable()] * 3)
    await recorder_with_lanes(store).record(BATCH)
    assert store.tried[0] == store.tried[1] == store.tried[2] == store.tried[3]
    assert len(store.tried) == LANES_MAX + 3
    assert len(store.ledger) == len(BATCH)
    assert virtual_time.slept_seconds


async def test_a_request_id_that_is_used_for_two_movies_is_recorded_once_whatever_its_lanes() -> (
    None
):
    store = store_of_movies()
    decisions = await recorder_with_lanes(store).record(
        [*BATCH, *(ask("0", movie=name) for name in MOVIES)]
    )
    told = [d for d in (decisions[0], *decisions[100:]) if isinstance(d, OutcomeEvent)]
    assert len({outcome.movie_id for outcome in told}) == 1
    assert {outcome.request_id for outcome in told} == {"0"}
