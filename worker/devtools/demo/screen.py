"""What the demo shows of the rush while it lasts: a live picture."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from worker.devtools.demo.worker_processes import WorkerProcess

BUSIEST_SHOWN: Final = 8
RATE_WINDOW_SECONDS: Final = 2
ENDS_OF_WINDOW: Final = 2

Slot = tuple[str, int]


@dataclass(slots=True)
class View:
    """The state of the rush as seen from outside the workers."""

    capacities: Mapping[Slot, int]
    sent_count: int
    request_count: int
    published: int = 0
    events: int = 0
    answered: set[str] = field(default_factory=set)
    outcomes: Counter[str] = field(default_factory=Counter)
    seats_left: dict[Slot, int] = field(default_factory=dict)
    demand: Counter[Slot] = field(default_factory=Counter)
    workers: Sequence[WorkerProcess] = ()
    notes: list[str] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)
    last_event: float = field(default_factory=time.monotonic)
    _samples: deque[tuple[float, int]] = field(default_factory=deque)

    def note_event(self, event: Mapping[str, object]) -> None:
        """Count one event."""
        self.events += 1
        self.last_event = time.monotonic()
        request_id = str(event["requestId"])
        if request_id in self.answered:
            return
        self.answered.add(request_id)
        self.outcomes[str(event.get("reason", event["outcome"]))] += 1
        movie_id, slot_id, left = (
            event.get("movieId"), event.get("timeSlotId"), event.get("seatsAvailable"),
        )  # fmt: skip
        if isinstance(movie_id, str) and isinstance(slot_id, int) and isinstance(left, int):
            slot = (movie_id, slot_id)
            self.demand[slot] += 1
            # Events of two workers may overtake each other; here, free seats only get fewer.
            self.seats_left[slot] = min(left, self.seats_left.get(slot, left))

    def sample(self) -> None:
        """Note how many outcomes there are now; to be called several times a second."""
        now = time.monotonic()
        self._samples.append((now, len(self.answered)))
        while now - self._samples[0][0] > RATE_WINDOW_SECONDS:
            self._samples.popleft()

    @property
    def rate(self) -> float:
        """Outcomes a second over the last RATE_WINDOW_SECONDS of samples."""
        if len(self._samples) < ENDS_OF_WINDOW:
            return 0.0
        (since, before), (until, after) = self._samples[0], self._samples[-1]
        return (after - before) / (until - since)

    @property
    def conflicts(self) -> int:
        return sum(worker.conflicts for worker in self.workers)

    def summary(self) -> str:
        """The rush in one sentence."""
        seconds = self.last_event - self.started
        return (
            f"{self.sent_count:,} messages, {len(self.answered):,} outcomes in {seconds:.1f} s, "
            f"{self.conflicts} conflicts retried"
        )

    def line(self) -> str:
        """The picture in one line, for an output that is not a terminal."""
        return (
            f"{time.monotonic() - self.started:5.1f} s  {self.published:,} published  "
            f"{len(self.answered):,}/{self.request_count:,} outcomes  {self.rate:,.0f}/s  "
            f"{self.conflicts} conflicts  {_worker_states(self.workers)}"
        )

    def __rich__(self) -> RenderableType:
        figures = (
            f"[bold]{self.rate:,.0f} outcomes/s[/]",
            f"{self.published:,} of {self.sent_count:,} published",
            f"{self.events:,} events",
            f"{self.conflicts} conflicts retried",
        )
        outcomes = (f"{count:,} {name}" for name, count in self.outcomes.most_common(4))
        return Panel(
            Group(
                self._progress(),
                Text.from_markup("   ".join(figures)),
                "   ".join(outcomes),
                Text.from_markup(_worker_states(self.workers, markup=True)),
                "",
                self._busiest(),
                *(Text.from_markup(f"[dim]{note}[/]") for note in self.notes[-3:]),
            ),
            title="premiere rush",
            width=90,
        )

    def _progress(self) -> Table:
        """In a table, because a bar by itself does not end its line."""
        table = Table.grid()
        bar = ProgressBar(total=self.request_count, completed=len(self.answered), width=72)
        table.add_row(bar, f"  {len(self.answered):,}")
        return table

    def _busiest(self) -> Table:
        table = Table.grid(padding=(0, 2))
        for slot, request_count in self.demand.most_common(BUSIEST_SHOWN):
            capacity = self.capacities[slot]
            taken = capacity - self.seats_left[slot]
            table.add_row(
                f"{slot[0]} #{slot[1]}",
                ProgressBar(total=capacity, completed=taken, width=30),
                f"{taken}/{capacity} seats",
                f"[dim]{request_count:,} requests[/]",
            )
        return table


def _worker_states(workers: Sequence[WorkerProcess], *, markup: bool = False) -> str:
    colours = {"working": "green", "killed": "red", "starting": "yellow", "stopped": "dim"}
    words = []
    for worker in workers:
        pid = f" (pid {worker.process.pid})" if worker.process.pid else ""
        word = f"worker {worker.number}{pid} {worker.state}"
        words.append(f"[{colours[worker.state]}]{word}[/]" if markup else word)
    return "  ".join(words)
