"""How a batch gets into the ledger though races are lost, MongoDB refuses, or MongoDB is away."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from unittest.mock import ANY

import pytest

from contracts import OutcomeEvent
from tests.unit.fakes import FakeStore, VirtualTime, record
from tests.unit.values import NOW, ask, faulty, movie, shown
from worker.errors import Conflict, Refused, StoreUnusable, WorkerError
from worker.rules.decision import Decision, Request, Undecidable
from worker.rules.snapshot import Malformed, TimeSlot
from worker.service.contention import (
    CONFLICT_ATTEMPTS,
    LOSING_STREAK,
    ONE_MOVIE_SECONDS,
    OUTAGE_SECONDS,
    REFUSED_ATTEMPTS,
    TURN_SECONDS,
    TURNS_AFTER_CONFLICT,
)
from worker.service.recording import LONGEST_WAIT_SECONDS, Recorder

pytestmark = pytest.mark.usefixtures("virtual_time")


def store_with_room(capacity: int = 100, **options: object) -> FakeStore:
    store = FakeStore(movies={"heat": movie(slots={1: TimeSlot(capacity, 0)})})
    vars(store).update(options)
    return store


def recorder_of(store: FakeStore) -> Recorder:
    return Recorder(store, clock=lambda: NOW)


def outcomes(decisions: Sequence[Decision]) -> list[str]:
    return [d.outcome if isinstance(d, OutcomeEvent) else type(d).__name__ for d in decisions]


async def test_what_is_answered_is_what_the_ledger_holds() -> None:
    store = store_with_room()
    decisions = await record(recorder_of(store), [ask("a"), ask("b")])
    assert decisions == [store.ledger["a"], store.ledger["b"]]


async def test_a_batch_is_one_commit() -> None:
    store = store_with_room()
    recorder = recorder_of(store)
    await record(recorder, [ask(str(number)) for number in range(20)])
    assert (len(store.tried), recorder.tally.commits) == (1, 1)


async def test_a_batch_of_nothing_touches_nothing() -> None:
    store = store_with_room(always=StoreUnusable())
    assert await record(recorder_of(store), []) == []


async def test_a_batch_of_replays_writes_nothing() -> None:
    store = store_with_room()
    first = await record(recorder_of(store), [ask("a")])
    assert await record(recorder_of(store), [ask("a")]) == first
    assert len(store.tried) == 1


async def test_times_are_kept_to_the_millisecond_as_in_the_ledger() -> None:
    exact = datetime(2026, 11, 22, 18, 0, 0, 123999, tzinfo=UTC)
    recorder = Recorder(store_with_room(), clock=lambda: exact)
    (outcome,) = await record(recorder, [ask()])
    assert isinstance(outcome, OutcomeEvent)
    assert outcome.decided_at == exact - timedelta(microseconds=999)


@pytest.mark.parametrize("failure", [Conflict("race"), Refused("rule"), StoreUnusable("away")])
async def test_a_failed_commit_is_tried_again(failure: WorkerError) -> None:
    store = store_with_room(failures=deque([failure]))
    assert outcomes(await record(recorder_of(store), [ask("a"), ask("b")])) == ["confirmed"] * 2
    assert store.tried == [["a", "b"]] * 2


async def test_a_lost_race_is_decided_again_from_what_is_stored() -> None:
    store = store_with_room(capacity=2)

    async def book_meanwhile() -> None:
        store.movies["heat"] = movie(version=8, slots={1: TimeSlot(2, 1)})

    store.between = book_meanwhile
    (decision,) = await record(recorder_of(store), [ask()])
    assert shown(decision) == "sold_out, version 8, 1 left"


async def test_two_recorders_with_one_request_record_it_once() -> None:
    store = store_with_room()
    both_have_read = asyncio.Barrier(2)

    async def wait_for_the_other() -> None:
        if len(store.tried) <= 2:
            await both_have_read.wait()

    store.between = wait_for_the_other
    first, second = await asyncio.gather(
        *(record(recorder, [ask()]) for recorder in (recorder_of(store), recorder_of(store)))
    )
    assert first == second
    assert store.movies["heat"].time_slots[1] == TimeSlot(100, 2)


async def test_a_retry_is_logged_with_its_cause_before_it_waits(
    caplog: pytest.LogCaptureFixture, virtual_time: VirtualTime
) -> None:
    caplog.set_level(logging.INFO, "worker.service.recording")
    store = store_with_room(failures=deque([Conflict("the race"), StoreUnusable("no primary")]))
    await record(recorder_of(store), [ask()])
    first, second = caplog.messages
    assert "attempt 1" in first
    assert "Conflict: the race" in first
    assert "attempt 2" in second
    assert "StoreUnusable: no primary" in second
    for line, slept in zip(caplog.messages, virtual_time.slept_seconds, strict=True):
        assert f"{slept:.3f} s" in line
    assert [record.levelname for record in caplog.records] == ["INFO", "WARNING"]


async def test_a_batch_that_keeps_losing_races_is_halved() -> None:
    store = store_with_room(failures=deque([Conflict()] * CONFLICT_ATTEMPTS))
    requests = [ask("a"), ask("b", movie="alien"), ask("c"), ask("d", movie="alien")]
    expected = ["confirmed", "rejected"] * 2
    assert outcomes(await record(recorder_of(store), requests)) == expected
    assert store.tried[CONFLICT_ATTEMPTS:] == [["a", "b"], ["c", "d"]]


async def test_a_batch_for_one_movie_is_not_halved_for_losing_races() -> None:
    """Two halves would want the same movie again, and one commit would become two."""
    store = store_with_room(failures=deque([Conflict()] * 5 * CONFLICT_ATTEMPTS))
    requests = [ask(name) for name in "abcd"]
    assert outcomes(await record(recorder_of(store), requests)) == ["confirmed"] * 4
    assert {tuple(tried) for tried in store.tried} == {tuple("abcd")}


async def test_halving_finds_the_one_request_that_mongodb_refuses() -> None:
    store = store_with_room(poison={"13"})
    requests = [ask(str(number), people=1) for number in range(20)]
    decisions = await record(recorder_of(store), requests)
    assert [isinstance(decision, Undecidable) for decision in decisions] == [
        request.request_id == "13" for request in requests
    ]
    assert len(store.ledger) == 19
    assert store.movies["heat"].time_slots[1] == TimeSlot(100, 19)


async def test_a_refusal_is_explained_in_the_answer() -> None:
    (decision,) = await record(recorder_of(store_with_room(poison={"a"})), [ask("a")])
    assert isinstance(decision, Undecidable)
    assert "a request is poisonous" in decision.detail


async def test_an_undecidable_request_keeps_an_outcome_it_has() -> None:
    """The entry was not on a majority when it was read, and the movie was spoilt since."""
    store = store_with_room()
    (first,) = await record(recorder_of(store), [ask("a")])
    store.movies["heat"] = Malformed("movie heat: version is 'x', not a whole number")  # type: ignore[assignment]
    store.too_recent = {"a"}
    assert await record(recorder_of(store), [ask("a"), ask("b")]) == [first, Undecidable(ANY)]


async def test_a_refused_request_keeps_an_outcome_it_has() -> None:
    store = store_with_room()
    (first,) = await record(recorder_of(store), [ask("a")])
    store.too_recent, store.always = {"a"}, Refused("again")
    assert await record(recorder_of(store), [ask("a")]) == [first]


async def test_a_request_refused_alone_is_tried_only_a_few_times() -> None:
    store = store_with_room(poison={"a"})
    await record(recorder_of(store), [ask("a")])
    assert len(store.tried) == REFUSED_ATTEMPTS


async def test_decisions_keep_the_order_of_the_requests_when_halved() -> None:
    store = store_with_room(poison={"c", "f"})
    requests: list[Request] = [ask(name) for name in "abcdef"]
    requests += [faulty("g"), ask("a")]
    decisions = await record(recorder_of(store), requests)
    assert outcomes(decisions) == [
        *["confirmed", "confirmed", "Undecidable"],
        *["confirmed", "confirmed", "Undecidable", "rejected", "confirmed"],
    ]
    assert decisions[0] == decisions[7]


async def test_a_lone_request_may_lose_more_races_than_a_batch(virtual_time: VirtualTime) -> None:
    store = store_with_room(failures=deque([Conflict()] * 10 * CONFLICT_ATTEMPTS))
    assert outcomes(await record(recorder_of(store), [ask()])) == ["confirmed"]
    assert max(virtual_time.slept_seconds) <= LONGEST_WAIT_SECONDS


async def test_a_lone_request_that_loses_every_race_is_handed_back(
    virtual_time: VirtualTime,
) -> None:
    store = store_with_room(always=Conflict("again"))
    with pytest.raises(StoreUnusable, match="again"):
        await record(recorder_of(store), [ask()])
    assert virtual_time.now_seconds >= ONE_MOVIE_SECONDS
    assert virtual_time.now_seconds < ONE_MOVIE_SECONDS + 2 * LONGEST_WAIT_SECONDS


async def test_a_batch_is_held_through_an_outage_and_not_halved(virtual_time: VirtualTime) -> None:
    store = store_with_room(failures=deque([StoreUnusable()] * 3 * CONFLICT_ATTEMPTS))
    assert outcomes(await record(recorder_of(store), [ask("a"), ask("b")])) == ["confirmed"] * 2
    assert {tuple(tried) for tried in store.tried} == {("a", "b")}
    assert 0 < virtual_time.now_seconds < OUTAGE_SECONDS


async def test_a_batch_is_given_up_when_mongodb_stays_away(virtual_time: VirtualTime) -> None:
    store = store_with_room(always=StoreUnusable("no primary"))
    with pytest.raises(StoreUnusable, match="no primary"):
        await record(recorder_of(store), [ask("a"), ask("b")])
    assert virtual_time.now_seconds >= OUTAGE_SECONDS


async def test_an_outage_is_not_waited_for_during_a_stop(virtual_time: VirtualTime) -> None:
    store = store_with_room(always=StoreUnusable())
    recorder = Recorder(store, is_stopping=lambda: True)
    with pytest.raises(StoreUnusable):
        await record(recorder, [ask()])
    assert virtual_time.slept_seconds == []


async def test_a_lost_race_is_tried_again_even_during_a_stop() -> None:
    store = store_with_room(failures=deque([Conflict()]))
    recorder = Recorder(store, is_stopping=lambda: True)
    assert outcomes(await record(recorder, [ask()])) == ["confirmed"]


async def test_a_losing_streak_aborts_what_dead_workers_left_open() -> None:
    store = store_with_room(failures=deque([Conflict()] * (LOSING_STREAK - 1)))
    recorder = recorder_of(store)
    await record(recorder, [ask("a")])
    assert store.abandoned_aborted == 0
    store.failures.extend([Conflict()] * 2 * LOSING_STREAK)
    await record(recorder, [ask("b")])
    assert store.abandoned_aborted == 2


@pytest.mark.parametrize("failure", [StoreUnusable(), Refused(), Conflict()])
async def test_a_failure_to_abort_is_no_failure_of_the_batch(failure: WorkerError) -> None:
    store = store_with_room(failures=deque([Conflict()] * (LOSING_STREAK + 1)))
    store.aborting_fails = failure
    assert outcomes(await record(recorder_of(store), [ask()])) == ["confirmed"]
    assert store.abandoned_aborted == 1


async def test_after_a_conflict_others_have_a_turn_until_it_is_quiet(
    virtual_time: VirtualTime,
) -> None:
    store = store_with_room(failures=deque([Conflict()]))
    recorder = recorder_of(store)
    await record(recorder, [ask("first")])
    virtual_time.slept_seconds.clear()
    for number in range(2 * TURNS_AFTER_CONFLICT):
        await record(recorder, [ask(f"r{number}")])
    turns = virtual_time.slept_seconds
    assert len(set(turns)) == TURNS_AFTER_CONFLICT - 1  # The first commit was quiet, too.
    assert max(turns) <= 2 * TURN_SECONDS


async def test_there_is_no_turn_at_a_movie_without_conflicts(
    virtual_time: VirtualTime,
) -> None:
    store = store_with_room(failures=deque([Conflict()]))
    recorder = recorder_of(store)
    await record(recorder, [ask("first")])
    virtual_time.slept_seconds.clear()
    await record(recorder, [ask("other", movie="alien")])
    await record(recorder, [])
    assert virtual_time.slept_seconds == []


async def test_conflicts_and_commits_are_counted() -> None:
    store = store_with_room(failures=deque([Conflict(), Refused(), Conflict()]))
    recorder = recorder_of(store)
    await record(recorder, [ask()])
    assert (recorder.tally.commits, recorder.tally.conflicts) == (1, 2)


async def test_an_error_that_nobody_expected_is_not_tried_again() -> None:
    class Surprise(WorkerError):
        """Not a failure that a retry could mend."""

    store = store_with_room(always=Surprise())
    with pytest.raises(Surprise):
        await record(recorder_of(store), [ask()])
    assert len(store.tried) == 1
