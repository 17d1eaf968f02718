"""An invariant that does not hold: which one, where, and what was found, in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from worker.commands.terminal import printable

Invariant = Literal["I1", "I2", "I3", "I6"]

INVARIANTS: Final[dict[Invariant, str]] = {
    "I1": "0 <= bookedCount <= capacity in every time slot",
    "I2": "bookedCount = opening balance + confirmed people",
    "I3": "every ledger entry is complete, as it was written",
    "I6": "versions only grow, by one for each commit",
}
"""The invariants of the design that can be checked in a database."""


@dataclass(frozen=True, slots=True)
class Violation:
    """What was found, and where; the place has only the parts that are known."""

    invariant: Invariant
    problem: str
    movie_id: str | None = None
    time_slot_id: object = None
    request_id: object = None

    def __str__(self) -> str:
        places = (
            ("movie", self.movie_id),
            ("time slot", self.time_slot_id),
            ("request", self.request_id),
        )
        where = ", ".join(f"{kind} {value}" for kind, value in places if value is not None)
        return printable(f"{self.invariant} {where}: {self.problem}")

    def to_json(self) -> str:
        """The violation as one line of JSON, for programs."""
        fields = {
            "invariant": self.invariant,
            "movieId": self.movie_id,
            "timeSlotId": self.time_slot_id,
            "requestId": self.request_id,
            "problem": self.problem,
        }
        return json.dumps({k: v for k, v in fields.items() if v is not None}, default=str)


Report = Callable[[Violation], None]
"""Receives each violation."""
