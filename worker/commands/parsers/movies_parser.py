"""The commands ``movies import`` and ``movies adopt``: the catalogue."""

from __future__ import annotations

import argparse
from typing import Final

from worker.commands.parsers.shared import (
    MONGODB,
    Command,
    Commands,
    add_command,
    add_group,
    add_settings,
)
from worker.settings import Settings

ADOPT_HELP: Final = """\
Records for each time slot how many seats were booked before the worker took over: those that are
booked but not in the ledger. `audit` counts them from then on. A balance is recorded once, even if
it is 0; adopting again records only time slots that are new, and never changes what is recorded.
Run it when the worker takes over a catalogue, and after an import of movies with booked seats.
Workers may keep running meanwhile."""
ADOPT_EXAMPLES: Final = """\
examples:
  reservation-worker movies adopt --dry-run
  reservation-worker movies adopt
"""


def add_movies(commands: Commands) -> None:
    """Add ``movies import`` and ``movies adopt``."""
    movies = add_group(commands, "movies", "the catalogue: `movies import`, `movies adopt`")
    _add_import(movies)
    _add_adopt(movies)


def _add_import(movies: Commands) -> None:
    summary = "add movies, time slots and capacities"
    imports = add_command(movies, "import", summary, _import)
    imports.add_argument("file", metavar="FILE", help="JSON or JSON lines; - for standard input")
    add_settings(imports, MONGODB)


def _add_adopt(movies: Commands) -> None:
    adopt = add_command(
        movies,
        "adopt",
        "record, once, the seats booked before the worker took over",
        _adopt,
        description=ADOPT_HELP,
        examples=ADOPT_EXAMPLES,
    )
    adopt.add_argument("--dry-run", action="store_true", help="only show what would be recorded")
    add_settings(adopt, MONGODB)


def _import(settings: Settings, options: argparse.Namespace) -> Command:
    from worker.commands.import_movies import import_movies

    return import_movies(settings, options.file)


def _adopt(settings: Settings, options: argparse.Namespace) -> Command:
    from worker.commands.audit.adoption import adopt_movies

    return adopt_movies(settings, dry_run=options.dry_run)
