"""A movie that cannot even be read, such as one with a date that Python has not got."""

from __future__ import annotations

import pytest

from tests.unit.fakes import FakeStore, record
from tests.unit.values import ask, movie
from worker.errors import Refused
from worker.rules.decision import Reused, Undecidable
from worker.rules.snapshot import TimeSlot
from worker.service.recording import Recorder

pytestmark = pytest.mark.usefixtures("virtual_time")


@pytest.fixture
def store() -> FakeStore:
    return FakeStore({"heat": movie(slots={1: TimeSlot(100, 0)})})


async def test_a_new_request_for_it_is_undecidable(store: FakeStore) -> None:
    store.reading_fails = Refused("year 10000 is out of range")
    (decision,) = await record(Recorder(store), [ask()])
    assert decision == Undecidable(
        "MongoDB refuses to store the outcome: year 10000 is out of range"
    )


async def test_a_request_from_before_is_answered_with_its_outcome(store: FakeStore) -> None:
    (first,) = await record(Recorder(store), [ask("a")])
    store.reading_fails = Refused("year 10000 is out of range")
    assert await record(Recorder(store), [ask("a")]) == [first]


async def test_a_request_with_a_used_id_is_still_called_reused(store: FakeStore) -> None:
    await record(Recorder(store), [ask("a", people=1)])
    store.reading_fails = Refused("year 10000 is out of range")
    (decision,) = await record(Recorder(store), [ask("a", people=2)])
    assert isinstance(decision, Reused)
