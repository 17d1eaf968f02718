"""``dead-letters list`` and ``show``: dead letters as a person can read them, safely.

What a publisher wrote is shown with its control characters escaped, so that no dead letter can play
tricks on the reader's terminal.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from contracts import topology
from worker.broker.dead_letters import open_dead_letters
from worker.commands.dead_letters.selection import Counts, ReadDeadLetter, Selection, survey
from worker.commands.terminal import print_line, printable, shortened
from worker.errors import NoSuchDeadLetter
from worker.settings import Settings

DEAD_LETTERS_SHOWN_MAX: Final = 20
PIPE_COLUMNS: Final = 500
"""More than the longest ids and a detail take; a table is only as wide as it has to be."""
DETAIL_CHARACTERS_MAX: Final = 100


async def list_dead_letters(settings: Settings, selection: Selection, *, limit: int) -> None:
    """The command: how many dead letters there are of each error, and the first of those selected.

    Raises BrokerUnusable, also while the queue has another consumer.
    """
    async with open_dead_letters(settings.amqp_url) as queue:
        found = await survey(queue, selection, limit)
    console = _tables()
    console.print(_counts_table(found.counts))
    if found.first:
        console.print(_dead_letters_table(found.first))
    hidden = found.counts.selected.total() - len(found.first)
    if hidden:
        print_line(f"and {hidden:,} more (see --limit)")


async def show_dead_letter(settings: Settings, dead_letter_id: str) -> None:
    """The command: one dead letter in full. Raises NoSuchDeadLetter, BrokerUnusable."""
    async with open_dead_letters(settings.amqp_url) as queue:
        found = await survey(queue, Selection(ids=[dead_letter_id]), DEAD_LETTERS_SHOWN_MAX)
    if not found.first:
        raise NoSuchDeadLetter(
            f"none of the {found.counts.seen.total():,} dead letters has the id "
            f"{printable(dead_letter_id)}; `reservation-worker dead-letters list` shows their ids"
        )
    for line in lines_of(found.first[0]):
        print_line(line)
    count = found.counts.selected.total()
    if count > 1:
        names = ", ".join(dict.fromkeys(dead_letter.name for dead_letter in found.first))
        print_line(f"\n{count:,} dead letters have this id: {names}")


async def print_counts(settings: Settings, selection: Selection) -> Counts:
    """Print how many dead letters there are of each error, and how many of them are selected."""
    async with open_dead_letters(settings.amqp_url) as queue:
        found = await survey(queue, selection, 0)
    _tables().print(_counts_table(found.counts))
    return found.counts


def _tables() -> Console:
    """Standard output for tables; in a pipe no cell is folded, so that it can be searched."""
    return Console(width=None if sys.stdout.isatty() else PIPE_COLUMNS)


def _counts_table(counts: Counts) -> Table:
    """How many dead letters there are, and how many are selected, by error."""
    table = Table(title=topology.DEAD_LETTERS, title_justify="left")
    table.add_column("error")
    table.add_column("dead letters", justify="right")
    table.add_column("selected", justify="right")
    for error, count in counts.seen.most_common():
        table.add_row(Text(printable(error)), f"{count:,}", f"{counts.selected[error]:,}")
    table.add_section()
    table.add_row("all", f"{counts.seen.total():,}", f"{counts.selected.total():,}")
    return table


def lines_of(dead_letter: ReadDeadLetter) -> Iterator[str]:
    """Every line of a dead letter: what is wrong with it, its properties and headers, its body."""
    delivery = dead_letter.raw.delivery
    yield f"dead letter {dead_letter.name}: {printable(dead_letter.error)}"
    if dead_letter.detail:
        yield printable(dead_letter.detail)
    yield ""
    properties = asdict(dead_letter.raw.properties) | {"headers": None}
    given = {name: value for name, value in properties.items() if value is not None}
    yield from _listed({"routing key": delivery.routing_key, **given})
    yield from _listed(dead_letter.raw.headers)
    yield ""
    yield f"body, {len(delivery.body):,} bytes"
    yield from _pretty(delivery.body).splitlines() or [""]


def _dead_letters_table(dead_letters: list[ReadDeadLetter]) -> Table:
    table = Table()
    for column in ("dead letter", "error", "request", "movie"):
        table.add_column(column, overflow="fold")
    table.add_column("detail", overflow="fold")
    for dead_letter in dead_letters:
        texts = (dead_letter.error, dead_letter.request_id or "", dead_letter.movie_id or "")
        detail = shortened(printable(dead_letter.detail), DETAIL_CHARACTERS_MAX)
        table.add_row(dead_letter.name, *(Text(printable(text)) for text in texts), Text(detail))
    return table


def _listed(values: Mapping[str, object]) -> Iterator[str]:
    for name, value in values.items():
        text = value if isinstance(value, str) else str(value)
        yield f"  {printable(name):28} {printable(text)}"


def _pretty(body: bytes) -> str:
    """JSON indented, anything else as it is, both with escapes for what does not print."""
    try:
        text = json.dumps(json.loads(body), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        text = body.decode(errors="backslashreplace")
    return printable(text, keep="\n")
