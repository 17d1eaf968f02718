"""A short selection of the faults, one of each kind; ``make faults`` has all of them."""

from __future__ import annotations

import logging
import os
import random
from collections.abc import AsyncIterator
from typing import Final

import pytest

from tests.faults.matrix import BY_NAME, FAULTS, combinations, named
from tests.faults.report import markdown
from tests.faults.testbed import FaultTestbed, open_testbed
from tests.faults.trial import try_fault

SEED: Final = 20261122
SELECTION: Final = (
    "worker-killed",
    "channels-shut",
    "queue-deleted",
    "primary-killed",
    "broker-wire-torn",
)


@pytest.fixture(scope="module")
async def testbed() -> AsyncIterator[FaultTestbed]:
    """Three members of MongoDB, a RabbitMQ and three workers, for all of these tests."""
    if os.environ.get("RESERVATION_AMQP_URL"):
        pytest.skip("the servers are not ours to break")
    async with open_testbed() as opened:
        yield opened


@pytest.mark.parametrize("name", SELECTION)
async def test_a_fault_under_load_is_over_within_15_seconds(
    testbed: FaultTestbed, name: str
) -> None:
    result = await try_fault(testbed, named(name), random.Random(SEED), logging.debug)
    assert result.problems == (), f"seed {SEED}"
    assert "never" not in markdown([result])


def test_combinations_are_of_different_places_and_repeatable() -> None:
    drawn = combinations(50, random.Random(SEED))
    assert [fault.name for fault in drawn] == [
        fault.name for fault in combinations(50, random.Random(SEED))
    ]
    for fault in drawn:
        parts = [named(name) for name in fault.name.split(" + ")]
        assert len({part.place for part in parts}) == len(parts) >= 2
        assert named(fault.name).what == fault.what


def test_every_fault_has_a_name_of_its_own() -> None:
    assert len(BY_NAME) == len(FAULTS)
