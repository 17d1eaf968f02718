"""What an operator reads in the log about batches: how grave it is, and how many requests it is."""

from __future__ import annotations

import logging
from collections import deque
from typing import Final

import pytest

from tests.unit.fakes import FakeStore, record
from tests.unit.test_partitions import BATCH, recorder_with_partitions, store_of_movies
from tests.unit.values import ask, movie
from tests.unit.world import World, delivery
from worker.broker.messages import Delivery
from worker.errors import Conflict, Refused, WorkerError
from worker.service.contention import CONFLICT_ATTEMPTS, REFUSED_ATTEMPTS
from worker.service.recording import Recorder

pytestmark = pytest.mark.usefixtures("virtual_time")

TWO_MOVIES: Final = [ask("a"), ask("b", movie="alien"), ask("c", movie="alien")]


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, int, str]]:
    """The last part of the logger's name, the level, and the text of each line."""
    return [(name.rpartition(".")[2], level, text) for name, level, text in caplog.record_tuples]


@pytest.mark.parametrize(
    ("failure", "attempts", "level"),
    [
        (Conflict("late"), CONFLICT_ATTEMPTS, logging.INFO),
        (Refused("no"), REFUSED_ATTEMPTS, logging.WARNING),
    ],
)
async def test_a_batch_that_is_halved_is_a_warning_only_if_refused(
    caplog: pytest.LogCaptureFixture, failure: WorkerError, attempts: int, level: int
) -> None:
    caplog.set_level(logging.INFO)
    store = FakeStore({"heat": movie()}, failures=deque([failure] * attempts))
    await record(Recorder(store), TWO_MOVIES)
    (line,) = [line for line in lines(caplog) if "halved" in line[2]]
    assert line[:2] == ("recording", level)
    assert "3 requests" in line[2]
    assert f"{type(failure).__name__}: {failure}" in line[2]


async def test_a_postponed_partition_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    store = store_of_movies()
    store.failures = deque([Conflict("late")])
    await record(recorder_with_partitions(store), BATCH)
    ((name, level, text),) = lines(caplog)
    assert (name, level) == ("recording", logging.INFO)
    assert f"{len(store.tried[0])} requests" in text


async def test_dead_letters_are_counted_in_the_log_by_their_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    junk = [Delivery(tag=tag, body=b"junk") for tag in (2, 3)]
    world = World([[delivery(1), *junk, delivery(4, numberOfPeople=0)]])
    await world.run()
    ((name, level, text),) = lines(caplog)
    assert (name, level) == ("pipeline", logging.WARNING)
    assert "reservations.dead-letters" in text
    assert "{'unreadable_request': 2, 'invalid_request': 1}" in text


async def test_a_batch_without_dead_letters_is_not_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    await World([[delivery(1), delivery(2, movieId="jaws")]]).run()
    assert lines(caplog) == []


async def test_refused_messages_are_logged_before_they_are_sent_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = World([[delivery(1), delivery(2)]])
    await world.run()
    world.refusals = {world.published[0].body: 1}
    world.batches = [[delivery(1), delivery(2)]]
    await world.run()
    ((name, level, text),) = lines(caplog)
    assert (name, level) == ("pipeline", logging.WARNING)
    assert "refused 1 messages" in text
