"""Some thousand worlds, each from a seed, and what is to be said of all of them together."""

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
from tests.simulation.simulation import Story, simulate
from tests.simulation.workload import Sending
from tests.simulation.world import Weather

SEEDS: Final = 2000
"""`make simulate SEEDS=400000` lives through more of them."""

MISHAPS: Final = {
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
    "edit: another slot",
    "edit: capacity",
    "edit: capacity, with a new version",
    "edit: frozen",
    "edit: movie appears",
    "edit: one slot less",
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
    """What the seeds of this run came to."""
    total = Tally()
    for piece in run_seeds(0, SEEDS):
        total.add(piece)
    return total


def test_every_invariant_holds_in_every_world(tally: Tally) -> None:
    assert tally.seeds == SEEDS
    found = [f"make simulate SEED={seed}: {findings[0]}" for seed, findings in tally.failures]
    assert not found, "\n".join(found)


def test_everything_that_can_go_wrong_does(tally: Tally) -> None:
    assert not MISHAPS - tally.happened.keys()


def trace_of(seed: int) -> tuple[Story, list[tuple[float, str, str]]]:
    steps: list[tuple[float, str, str]] = []
    story = simulate(seed, tell=lambda at, who, what: steps.append((at, who, what)))
    return story, steps


@pytest.mark.parametrize("seed", [3, 17, 104])
def test_a_seed_is_one_story_however_often_it_is_told(seed: int) -> None:
    first, first_steps = trace_of(seed)
    again, again_steps = trace_of(seed)
    assert first_steps
    assert first_steps == again_steps
    assert (first.diary, first.happened, first.steps) == (again.diary, again.happened, again.steps)


HARMLESS: Final = {"duplicate key", "write conflict", "filter matched nothing", "reply"}
"""What several workers do to each other by themselves, and no mishap."""


def test_a_world_in_which_nothing_goes_wrong_is_uneventful() -> None:
    for seed in range(20):
        calm = replace(plan_of(seed), weather=Weather(), edits=[], faults=[], poison={})
        # For long enough that the workers look after their connections now and then.
        last = Sending(60, b'{"requestId": "last", "movieId": "x"}')
        story = simulate(seed, plan=replace(calm, sendings=[*calm.sendings, last]))
        assert story.findings == []
        assert story.happened.pop("session opened") == calm.workers
        assert not story.happened.keys() - HARMLESS


TELL_STORIES: Final = """
import hashlib
from tests.simulation.test_worlds import trace_of
told = "".join(f"{seed} {trace_of(seed)}" for seed in range(40))
print(hashlib.sha256(told.encode()).hexdigest())
"""


def test_a_seed_is_the_same_story_in_every_process() -> None:
    digests = {
        subprocess.run(
            [sys.executable, "-c", TELL_STORIES],
            cwd=Path(__file__).parents[2],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert len(digests) == 1


def test_telling_a_story_does_not_change_it() -> None:
    told, _ = trace_of(5)
    assert simulate(5).diary == told.diary


def test_other_seeds_are_other_stories() -> None:
    assert len({str(simulate(seed).diary) for seed in range(20)}) == 20
