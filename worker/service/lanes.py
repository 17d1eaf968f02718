"""Parting a batch by movie, so that two workers seldom want the same movies at the same moment.

Two processes that each commit a few hundred of a thousand movies meet in nearly every commit, and
half of all work is done twice. Movies are therefore parted into lanes by a checksum of their id,
which is the same in every process, and each process goes through its lanes in an order of its own:
lanes never conflict with each other, and meeting in the same one is as unlikely as there are lanes.
A conflict doubles the lanes and a quiet time halves them, so a process that is alone commits whole
batches, and so does everybody when all want one movie. No I/O and no clock.
"""

from __future__ import annotations

import random
import zlib
from collections import defaultdict
from collections.abc import Sequence
from typing import Final

from worker.rules.decision import Request

LANES_MAX: Final = 4
REQUESTS_PER_LANE_MIN: Final = 16
"""Below that, a commit of its own costs more than a conflict now and then."""
QUIET_COMMITS: Final = 64
"""Commits without a conflict after which there are half as many lanes."""


class Lanes:
    """How many lanes there are at the moment, and what goes into each."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._count = 1
        self._quiet = 0

    @property
    def count(self) -> int:
        return self._count

    def note_conflict(self) -> None:
        """Somebody was in the same lane."""
        self._count = min(self._count * 2, LANES_MAX)
        self._quiet = 0

    def note_commit(self) -> None:
        """Nobody was."""
        self._quiet += 1
        if self._quiet >= QUIET_COMMITS:
            self._count = max(self._count // 2, 1)
            self._quiet = 0

    def part(self, requests: Sequence[Request]) -> list[list[int]]:
        """The positions of the requests in each lane, in arrival order; the lanes in any order."""
        count = self._count
        while count > 1 and len(requests) < count * REQUESTS_PER_LANE_MIN:
            count //= 2
        if count == 1:
            return [list(range(len(requests)))]
        lanes: defaultdict[int, list[int]] = defaultdict(list)
        for position, request in enumerate(requests):
            # A request id that is used for two movies must meet itself in one transaction or in
            # the ledger; lanes are committed one after the other, so either is the case.
            lanes[zlib.crc32((request.movie_id or "").encode()) % count].append(position)
        parted = list(lanes.values())
        self._chance.shuffle(parted)
        return parted
