"""A worker that breaks one rule is caught within the seeds of an ordinary test run."""

from __future__ import annotations

import gc
from typing import Final

import pytest

from tests.simulation.mutations import MUTATIONS
from tests.simulation.process import Parts
from tests.simulation.simulation import simulate, simulate_many
from tests.simulation.test_simulation import SEEDS

CAUGHT_BY: Final = {
    "ack before publish": "I4: acknowledged",
    "no slow start": "dead letter undeliverable without a cause",
    "publish before commit": "I4: announced, but no majority has an entry",
    "publish the decision instead of the ledger": "I3: announced as",
    "no version in the filter": "was never true",
    "no time slots in the filter": "was never true",
    "no ledger check": "never settled",
    "ledger entries after the transaction": "I2, I6",
    "ledger entries before the transaction": "was never true",
    "a local instead of a majority read of the ledger": "I4: announced, but no majority",
    "ok treated as success": "was never true",
}
"""One of the auditor's findings for each mutation."""


def caught_at(parts: Parts, by: str) -> int | None:
    """The first seed with this finding."""
    gc.collect()
    for result in simulate_many(range(SEEDS), parts):
        if any(by in finding for finding in result.findings):
            return result.seed
    return None


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_worker_that_breaks_a_rule_is_caught(name: str) -> None:
    assert caught_at(MUTATIONS[name], CAUGHT_BY[name]) is not None


def test_a_mutation_is_undone_afterwards() -> None:
    name = "no version in the filter"
    seed = caught_at(MUTATIONS[name], CAUGHT_BY[name])
    assert seed is not None
    assert simulate(seed).findings == []
