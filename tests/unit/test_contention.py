"""The policy under contention: partitions of a batch, turns, losing streaks, and the next step."""

from __future__ import annotations

import random
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.values import ask, faulty
from worker.errors import Conflict, Refused, StoreUnusable, WorkerError
from worker.rules.decision import Request
from worker.service.contention import (
    CONFLICT_ATTEMPTS,
    LOSING_STREAK,
    ONE_MOVIE_SECONDS,
    OUTAGE_SECONDS,
    PARTITIONS_MAX,
    QUIET_COMMITS,
    REFUSED_ATTEMPTS,
    REQUESTS_PER_PARTITION_MIN,
    TURN_SECONDS,
    TURNS_AFTER_CONFLICT,
    Contention,
    NextStep,
    Tried,
    next_step,
)

REQUESTS: Final = st.lists(
    st.builds(ask, movie=st.integers(0, 30).map(str)) | st.builds(faulty, field=st.just("movieId")),
    max_size=200,
)


def after_conflicts(count: int, seed: int = 1, movie: str = "heat") -> Contention:
    contention = Contention(random.Random(seed))
    for _ in range(count):
        contention.note_conflict([ask(movie=movie)])
    return contention


def partition_count(contention: Contention) -> int:
    return len(contention.partition([ask(movie=str(number)) for number in range(200)]))


@given(REQUESTS, st.integers(0, 5), st.integers())
def test_each_request_is_in_one_partition_and_each_movie_in_one(
    requests: list[Request], conflicts: int, seed: int
) -> None:
    partitions = after_conflicts(conflicts, seed).partition(requests)
    positions = sorted(position for partition in partitions for position in partition)
    assert positions == list(range(len(requests)))
    assert all(partition == sorted(partition) for partition in partitions)
    movies = [{requests[position].movie_id for position in positions} for positions in partitions]
    assert sum(map(len, movies)) == len(set[str | None]().union(*movies))


def test_a_worker_that_is_alone_commits_whole_batches() -> None:
    requests = [ask(movie=str(number)) for number in range(500)]
    assert after_conflicts(0).partition(requests) == [list(range(500))]


def test_conflicts_make_more_partitions_and_quiet_makes_fewer() -> None:
    contention = after_conflicts(0)
    counts = []
    for _ in range(6):
        contention.note_conflict([ask()])
        counts.append(partition_count(contention))
    assert counts == [2, 4, *[PARTITIONS_MAX] * 4]
    for _ in range(QUIET_COMMITS - 1):
        contention.note_commit()
    assert partition_count(contention) == PARTITIONS_MAX
    contention.note_commit()
    assert partition_count(contention) == PARTITIONS_MAX // 2
    for _ in range(10 * QUIET_COMMITS):
        contention.note_commit()
    assert partition_count(contention) == 1


def test_a_conflict_starts_the_quiet_time_anew() -> None:
    contention = after_conflicts(9)
    for _ in range(QUIET_COMMITS - 1):
        contention.note_commit()
    contention.note_conflict([ask()])
    contention.note_commit()
    assert partition_count(contention) == PARTITIONS_MAX


def test_each_halving_of_the_partitions_takes_a_quiet_time() -> None:
    requests = [ask(movie=str(number)) for number in range(500)]
    contention = after_conflicts(9)
    counts = []
    for _ in range(2 * QUIET_COMMITS):
        contention.note_commit()
        counts.append(len(contention.partition(requests)))
    assert counts == [
        *[PARTITIONS_MAX] * (QUIET_COMMITS - 1),
        *[PARTITIONS_MAX // 2] * QUIET_COMMITS,
        PARTITIONS_MAX // 4,
    ]


def test_a_small_batch_has_no_partitions() -> None:
    requests = [ask(movie=str(number)) for number in range(2 * REQUESTS_PER_PARTITION_MIN - 1)]
    assert len(after_conflicts(9).partition(requests)) == 1
    assert len(after_conflicts(9).partition([*requests, ask(movie="x")])) == 2


def test_all_processes_have_the_same_partitions_in_other_orders() -> None:
    requests = [ask(movie=str(number)) for number in range(200)]
    found = [after_conflicts(9, seed).partition(requests) for seed in range(20)]
    assert len({frozenset(map(tuple, partitions)) for partitions in found}) == 1
    assert len({tuple(map(tuple, partitions)) for partitions in found}) > 1


def test_others_have_a_turn_at_movies_until_it_is_quiet() -> None:
    contention = after_conflicts(1)
    turns = []
    for _ in range(TURNS_AFTER_CONFLICT):
        assert contention.turn_seconds([ask(movie="alien")]) == 0
        turns.append(contention.turn_seconds([ask(movie="alien"), ask()]))
        contention.note_commit()
    assert all(0 < seconds <= 2 * TURN_SECONDS for seconds in turns)
    assert min(turns) < TURN_SECONDS < max(turns) < 0.1
    assert contention.turn_seconds([ask()]) == 0


def test_without_a_contested_movie_there_is_no_turn() -> None:
    assert after_conflicts(0).turn_seconds([ask()]) == 0
    assert after_conflicts(1).turn_seconds([]) == 0
    contention = after_conflicts(0)
    contention.note_conflict([ask(), faulty(field="movieId")])
    assert contention.turn_seconds([faulty(field="movieId")]) == 0


def test_a_losing_streak_is_so_many_conflicts_without_a_commit() -> None:
    contention = after_conflicts(LOSING_STREAK - 1)
    streaks = [contention.is_losing_streak]
    for _ in range(LOSING_STREAK):
        contention.note_conflict([ask()])
        streaks.append(contention.is_losing_streak)
    assert streaks == [False, True, *[False] * (LOSING_STREAK - 1)]


def test_a_commit_ends_a_losing_streak() -> None:
    contention = after_conflicts(LOSING_STREAK)
    contention.note_commit()
    streaks = [contention.is_losing_streak]
    for _ in range(LOSING_STREAK - 1):
        contention.note_conflict([ask()])
        streaks.append(contention.is_losing_streak)
    assert not any(streaks)


ONE, MANY = [ask("a"), ask("b")], [ask("a"), ask("b", movie="alien")]
NEXT_STEPS: Final[dict[str, tuple[WorkerError, Tried, NextStep]]] = {
    "an outage": (
        StoreUnusable(),
        Tried(MANY, held_seconds=OUTAGE_SECONDS - 1),
        NextStep.TRY_AGAIN,
    ),
    "an outage that lasts": (
        StoreUnusable(),
        Tried(MANY, held_seconds=OUTAGE_SECONDS),
        NextStep.HAND_BACK,
    ),
    "an outage in a partition": (
        *(StoreUnusable(), Tried(MANY, is_postponable=True)),
        NextStep.TRY_AGAIN,
    ),
    "a refusal": (Refused(), Tried(MANY, REFUSED_ATTEMPTS - 1), NextStep.TRY_AGAIN),
    "a refusal that stays": (Refused(), Tried(MANY, REFUSED_ATTEMPTS), NextStep.HALVE),
    "a refusal for one movie": (Refused(), Tried(ONE, REFUSED_ATTEMPTS), NextStep.HALVE),
    "one request refused": (Refused(), Tried([ask()], REFUSED_ATTEMPTS), NextStep.GIVE_UP),
    "a refusal in a partition": (Refused(), Tried(MANY, is_postponable=True), NextStep.POSTPONE),
    "a conflict": (Conflict(), Tried(MANY, CONFLICT_ATTEMPTS - 1), NextStep.TRY_AGAIN),
    "a conflict again and again": (Conflict(), Tried(MANY, CONFLICT_ATTEMPTS), NextStep.HALVE),
    "a conflict for one movie": (
        *(Conflict(), Tried(ONE, 9 * CONFLICT_ATTEMPTS, ONE_MOVIE_SECONDS - 1)),
        NextStep.TRY_AGAIN,
    ),
    "every race for one movie lost": (
        *(Conflict(), Tried(ONE, 9 * CONFLICT_ATTEMPTS, ONE_MOVIE_SECONDS)),
        NextStep.HAND_BACK,
    ),
    "races and outages in turn, for too long": (
        *(Conflict(), Tried(ONE, held_seconds=OUTAGE_SECONDS)),
        NextStep.HAND_BACK,
    ),
    "a conflict in a partition": (Conflict(), Tried(ONE, is_postponable=True), NextStep.POSTPONE),
}


@pytest.mark.parametrize(("failure", "tried", "expected"), NEXT_STEPS.values(), ids=NEXT_STEPS)
def test_the_next_step_after(failure: WorkerError, tried: Tried, expected: NextStep) -> None:
    assert next_step(failure, tried) is expected


def test_only_an_outage_is_not_waited_for_during_a_stop() -> None:
    assert next_step(StoreUnusable(), Tried(MANY), is_stopping=True) is NextStep.HAND_BACK
    assert next_step(Conflict(), Tried(MANY), is_stopping=True) is NextStep.TRY_AGAIN
    assert next_step(Refused(), Tried(MANY), is_stopping=True) is NextStep.TRY_AGAIN


def test_a_failure_that_no_commit_is_known_to_have_is_raised() -> None:
    with pytest.raises(WorkerError, match="surprise"):
        next_step(WorkerError("surprise"), Tried(MANY))
