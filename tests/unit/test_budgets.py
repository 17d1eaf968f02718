"""Each kind of failure has a budget of its own: none is used up by a failure of another kind."""

from __future__ import annotations

import logging
from collections import deque

import pytest

from contracts import OutcomeEvent
from tests.unit.fakes import FakeStore, VirtualTime, record
from tests.unit.values import ask, movie
from worker.errors import Conflict, Refused, StoreUnusable, WorkerError
from worker.rules.snapshot import TimeSlot
from worker.service.contention import (
    CONFLICT_ATTEMPTS,
    LOSING_STREAK,
    ONE_MOVIE_SECONDS,
    REFUSED_ATTEMPTS,
    Streak,
)
from worker.service.recording import Recorder

pytestmark = pytest.mark.usefixtures("virtual_time")

OUTAGE = [StoreUnusable("away")] * 100
"""About a minute and a half, which is longer than any race may take."""


async def recorded_after(*failures: WorkerError) -> str:
    store = FakeStore({"heat": movie(slots={1: TimeSlot(100, 0)})})
    store.failures = deque(failures)
    (decision,) = await record(Recorder(store), [ask()])
    return decision.outcome if isinstance(decision, OutcomeEvent) else str(decision)


async def test_a_race_lost_after_an_outage_is_run_again(virtual_time: VirtualTime) -> None:
    assert await recorded_after(*OUTAGE, Conflict("late")) == "confirmed"
    assert virtual_time.now_seconds > ONE_MOVIE_SECONDS


async def test_a_refusal_after_an_outage_is_tried_again() -> None:
    failures = [*OUTAGE, *[Refused("no")] * (REFUSED_ATTEMPTS - 1)]
    assert await recorded_after(*failures) == "confirmed"


async def test_a_refusal_after_lost_races_is_tried_again() -> None:
    failures = [*[Conflict()] * CONFLICT_ATTEMPTS, *[Refused("no")] * (REFUSED_ATTEMPTS - 1)]
    assert await recorded_after(*failures) == "confirmed"


async def test_a_failed_abort_is_no_failure_of_another_kind(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "worker.service.recording")
    store = FakeStore({"heat": movie(slots={1: TimeSlot(100, 0)})}, aborting_fails=Refused("no"))
    store.failures = deque([Conflict("late")] * LOSING_STREAK)
    await record(Recorder(store), [ask()])
    assert len(caplog.messages) == LOSING_STREAK
    assert all(message.endswith("Conflict: late") for message in caplog.messages)


def test_a_streak_counts_from_the_last_failure_of_another_kind() -> None:
    streak = Streak()
    assert streak.count(StoreUnusable(), 1, 2) == (1, 2)
    assert streak.count(StoreUnusable(), 2, 31) == (2, 31)
    assert streak.count(Conflict(), 3, 32) == (1, 1)
    assert streak.count(Conflict(), 4, 40) == (2, 9)
    assert streak.count(StoreUnusable(), 5, 41) == (1, 1)
