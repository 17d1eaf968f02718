"""Many seeds on all cores: which of them failed and how, and a count of all incidents."""

from __future__ import annotations

import gc
import multiprocessing
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from tests.simulation.simulation import simulate_many

SEEDS_PER_PIECE = 50
"""About half a second's work: a steady progress bar, with little traffic between processes."""


@dataclass(slots=True)
class Tally:
    """The sums over a number of seeds."""

    seeds: int = 0
    steps: int = 0
    failures: list[tuple[int, list[str]]] = field(default_factory=list)
    incidents: Counter[str] = field(default_factory=Counter)

    def add(self, other: Tally) -> None:
        """Add the sums of other seeds."""
        self.seeds += other.seeds
        self.steps += other.steps
        self.failures += other.failures
        self.incidents += other.incidents


def run_piece(seeds: Sequence[int]) -> Tally:
    """Run these seeds in this process."""
    tally = Tally()
    # Garbage is collected between pieces only, which is faster.
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
    """Run ``count`` worlds on all cores; yields the tally of each piece of them."""
    end = first + count
    pieces = [
        range(start, min(start + SEEDS_PER_PIECE, end))
        for start in range(first, end, SEEDS_PER_PIECE)
    ]
    # A forked child would inherit the locks of threads that other tests left running.
    context = multiprocessing.get_context("spawn")
    with context.Pool(processes or os.cpu_count() or 1) as pool:
        yield from pool.imap_unordered(run_piece, pieces)
