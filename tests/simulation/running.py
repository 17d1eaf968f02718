"""Many seeds on all cores: which of them failed, and how, and what went wrong in them all."""

from __future__ import annotations

import gc
import multiprocessing
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from tests.simulation.simulation import simulate_many

SEEDS_PER_PIECE = 50
"""About half a second's work: a steady progress bar, and little talk between the processes."""


@dataclass(slots=True)
class Tally:
    """What some seeds came to."""

    seeds: int = 0
    steps: int = 0
    failures: list[tuple[int, list[str]]] = field(default_factory=list)
    incidents: Counter[str] = field(default_factory=Counter)

    def add(self, other: Tally) -> None:
        """Take in what other seeds came to."""
        self.seeds += other.seeds
        self.steps += other.steps
        self.failures += other.failures
        self.incidents += other.incidents


def run_piece(seeds: Sequence[int]) -> Tally:
    """Live through some worlds in this process."""
    tally = Tally()
    # What a world leaves behind is collected between the pieces, not at every turn.
    gc.disable()
    try:
        for result in simulate_many(seeds):
            tally.seeds += 1
            tally.steps += result.steps
            tally.incidents += result.incidents
            if result.findings:
                tally.failures.append((result.seed, result.findings))
    finally:
        gc.enable()
        gc.collect()
    return tally


def run_seeds(first: int, count: int, processes: int | None = None) -> Iterator[Tally]:
    """Live through ``count`` worlds on all cores; yields what each piece of them came to."""
    end = first + count
    pieces = [
        range(start, min(start + SEEDS_PER_PIECE, end))
        for start in range(first, end, SEEDS_PER_PIECE)
    ]
    # A forked child would inherit the threads' locks of whatever else runs in a test.
    context = multiprocessing.get_context("spawn")
    with context.Pool(processes or os.cpu_count() or 1) as pool:
        yield from pool.imap_unordered(run_piece, pieces)
