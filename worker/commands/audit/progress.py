"""What `audit` and `movies adopt` share: the check before they start, and the progress bar."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress

from worker.commands.audit.movies import AuditedMovie
from worker.commands.audit.reconciliation import Reconciler, reconcile
from worker.errors import BadInput
from worker.settings import Settings
from worker.store.audit import AuditReader


async def require_data(reader: AuditReader, settings: Settings) -> None:
    """Raises BadInput for a database without movies and without a ledger."""
    if not await reader.holds_data():
        raise BadInput(
            f"the database {settings.mongodb_database} has no movies and no ledger; is "
            "RESERVATION_MONGODB_DATABASE as the workers have it?"
        )


async def track(
    reader: AuditReader,
    reconciler: Reconciler,
    handle: Callable[[Sequence[AuditedMovie]], Awaitable[None]],
) -> None:
    """Pass on the movies, a range at a time, with their entries counted; raises StoreUnusable.

    Shows a progress bar on standard error, if that is a terminal.
    """
    stderr = Console(stderr=True)
    columns = (*Progress.get_default_columns(), MofNCompleteColumn())
    hidden = not stderr.is_terminal
    with Progress(*columns, console=stderr, transient=True, disable=hidden) as progress:
        bar = progress.add_task("MongoDB sorts the ledger", total=await reader.entry_count())

        def advance(count: int) -> None:
            progress.update(bar, description="reading the ledger", advance=count)

        async with aclosing(reconcile(reader, reconciler, advance)) as movie_ranges:
            async for movies in movie_ranges:
                await handle(movies)
