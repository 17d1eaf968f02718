"""`audit`: checks what is stored against the invariants, and reports every violation.

It writes and repairs nothing. Workers may keep running: what they do during an audit is never
reported as a violation, and never hides one.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from rich.console import Console
from rich.table import Table

from worker.commands.audit.movies import AuditedMovie
from worker.commands.audit.progress import require_data, track
from worker.commands.audit.reconciliation import Reconciler
from worker.commands.audit.violations import INVARIANTS, Invariant, Violation
from worker.commands.terminal import print_line
from worker.errors import InvariantsViolated
from worker.settings import Settings
from worker.store.audit import open_audit_reader

VIOLATIONS_SHOWN_MAX: Final = 100
"""By default; a database that was only partly restored has one for each time slot."""


class Findings:
    """Prints each violation as it is found, up to a limit, and counts them all."""

    def __init__(self, shown_max: int, *, as_json: bool) -> None:
        self._shown_max = shown_max
        self._as_json = as_json
        self.counts: Counter[Invariant] = Counter()
        self.unexplained_count = 0
        """Time slots with more seats booked than the ledger accounts for, and no balance."""

    def report(self, violation: Violation) -> None:
        """Count a violation, and print it unless there were too many."""
        self.counts[violation.invariant] += 1
        if self.counts.total() <= self._shown_max:
            print_line(violation.to_json() if self._as_json else str(violation))

    async def compare(self, movies: Sequence[AuditedMovie]) -> None:
        """Report every time slot whose booked seats are not accounted for."""
        for movie in movies:
            for violation in imbalances(movie):
                self.report(violation)
            self.unexplained_count += sum(
                slot.opening_balance is None and slot.unexplained > 0
                for slot in (movie.slots.values() if movie.fault is None else ())
            )

    def table(self) -> Table:
        """The number of violations of each invariant."""
        table = Table()
        table.add_column("invariant")
        table.add_column("violations", justify="right")
        for invariant, meaning in INVARIANTS.items():
            count = self.counts[invariant]
            table.add_row(f"{invariant}  {meaning}", f"[{'red' if count else 'green'}]{count:,}[/]")
        return table

    def require_none(self) -> None:
        """Raises InvariantsViolated if there was any violation."""
        if not (count := self.counts.total()):
            return
        hidden = count - self._shown_max
        not_shown = f", {hidden:,} of them not shown (see --limit)" if hidden > 0 else ""
        hint = (
            f". {self.unexplained_count:,} time slots have more seats booked than the ledger "
            "accounts for and no opening balance: if these were booked before the worker came, "
            "`reservation-worker movies adopt` records them, once"
            if self.unexplained_count
            else ""
        )
        raise InvariantsViolated(f"{count:,} violations{not_shown}; nothing was changed{hint}")


def imbalances(movie: AuditedMovie) -> Iterator[Violation]:
    """The violations of I2 in the time slots that a movie has, and in those it no longer has."""
    if movie.fault is not None:
        return  # It was reported when it was found.
    for slot in movie.slots.values():
        opening = slot.opening_balance or 0
        if slot.booked_count != opening + slot.confirmed:
            problem = (
                f"bookedCount is {slot.booked_count}, but {slot.confirmed} people are confirmed"
                f" and {opening} were booked before the worker came"
            )
            yield Violation("I2", problem, movie.name, slot.time_slot_id)
    for time_slot_id, people in sorted(movie.missing_slots.items()):
        problem = f"the time slot is gone, but {people} people are confirmed for it"
        yield Violation("I2", problem, movie.name, time_slot_id)


async def audit_database(
    settings: Settings, *, limit: int = VIOLATIONS_SHOWN_MAX, as_json: bool = False
) -> None:
    """The command: print each violation, up to ``limit``, and the number of all.

    Raises InvariantsViolated if there is any, BadInput for a database without movies and ledger,
    StoreUnusable.
    """
    begun = time.perf_counter()
    findings = Findings(limit, as_json=as_json)
    reconciler = Reconciler(findings.report)
    async with open_audit_reader(settings.mongodb_uri, settings.mongodb_database) as reader:
        await require_data(reader, settings)
        await track(reader, reconciler, findings.compare)
    Console(stderr=as_json).print(findings.table())
    print(
        f"audited {reconciler.entry_count:,} ledger entries, {reconciler.movie_count:,} movies and "
        f"{reconciler.time_slot_count:,} time slots in {time.perf_counter() - begun:.1f} s",
        file=sys.stderr if as_json else sys.stdout,
        flush=True,
    )
    findings.require_none()
