"""Thousands of worlds, each from a seed: all invariants hold, and every incident occurs."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Final, get_args

import pytest

from tests.simulation.plan import FaultKind, plan_of
from tests.simulation.running import Tally, run_seeds
from tests.simulation.simulation import Result, simulate
from tests.simulation.workload import ScheduledRequest
from tests.simulation.world import FaultRates

SEEDS: Final = 2000
"""``make simulate SEEDS=400000`` runs more of them."""

INCIDENTS: Final = {
    *(f"fault: {kind}" for kind in get_args(FaultKind)),
    "abandoned transaction ended",
    "command late",
    "command lost",
    "commit result unknown",
    "confirm late",
    "confirm lost",
    "connection closed for silence",
    "consumer timeout",
    "crash",
    "deliveries handed back",
    "delivery returned as failed",
    "duplicate key",
    "edit: slot added",
    "edit: capacity",
    "edit: capacity, with a new version",
    "edit: frozen",
    "edit: movie inserted",
    "edit: slot removed",
    "edit: order of slots",
    "edit: unusable",
    "filter matched nothing",
    "no primary",
    "pause",
    "poison",
    "publish refused",
    "publisher blocked",
    "redelivery",
    "reply",
    "reply lost",
    "stale read",
    "transaction expired",
    "validator refused",
    "write conflict",
    "writes rolled back",
}


@pytest.fixture(scope="module")
def tally() -> Tally:
    """The sums over all seeds of this test run."""
    total = Tally()
    for piece in run_seeds(0, SEEDS):
        total.add(piece)
    return total


def test_every_invariant_holds_in_every_world(tally: Tally) -> None:
    assert tally.seeds == SEEDS
    found = [f"make simulate SEED={seed}: {findings[0]}" for seed, findings in tally.failures]
    assert not found, "\n".join(found)


def test_every_kind_of_incident_occurs(tally: Tally) -> None:
    assert not INCIDENTS - tally.incidents.keys()


def trace_of(seed: int) -> tuple[Result, list[tuple[float, str, str]]]:
    steps: list[tuple[float, str, str]] = []
    result = simulate(seed, trace=lambda at, who, what: steps.append((at, who, what)))
    return result, steps


@pytest.mark.parametrize("seed", [3, 17, 104])
def test_a_seed_repeats_step_by_step(seed: int) -> None:
    first, first_steps = trace_of(seed)
    again, again_steps = trace_of(seed)
    assert first_steps
    assert first_steps == again_steps
    assert (first.journal, first.incidents, first.steps) == (
        again.journal,
        again.incidents,
        again.steps,
    )


HARMLESS: Final = {"duplicate key", "write conflict", "filter matched nothing", "reply"}
"""What several workers cause among themselves, without any fault."""


def test_a_world_without_faults_has_no_incidents() -> None:
    for seed in range(20):
        calm = replace(plan_of(seed), fault_rates=FaultRates(), edits=[], faults=[], poison={})
        # Long enough for the workers to check their connections several times.
        last = ScheduledRequest(60, b'{"requestId": "last", "movieId": "x"}')
        result = simulate(seed, plan=replace(calm, requests=[*calm.requests, last]))
        assert result.findings == []
        assert result.incidents.pop("session opened") == calm.workers
        assert not result.incidents.keys() - HARMLESS


DIGEST_OF_SEEDS: Final = """
import hashlib
from tests.simulation.test_simulation import trace_of
text = "".join(f"{seed} {trace_of(seed)}" for seed in range(40))
print(hashlib.sha256(text.encode()).hexdigest())
"""


def test_a_seed_is_the_same_in_every_process() -> None:
    digests = {
        subprocess.run(
            [sys.executable, "-c", DIGEST_OF_SEEDS],
            cwd=Path(__file__).parents[2],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert len(digests) == 1


def test_tracing_changes_nothing() -> None:
    traced, _ = trace_of(5)
    assert simulate(5).journal == traced.journal


def test_different_seeds_differ() -> None:
    assert len({str(simulate(seed).journal) for seed in range(20)}) == 20
