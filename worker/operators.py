"""The commands for those who look after a worker: their options, and help with examples.

    audit               whether what is stored keeps the promises
    movies adopt        what was booked before the worker came
    dead-letters        what could not be decided: look at it, send it back, drop it
    replay              recorded outcomes once more, for a subscriber that lost its data

Each command imports its module when it is called, so that `--help` answers at once.
"""

from __future__ import annotations

import argparse
from collections.abc import Coroutine
from typing import Final, TypeAlias

from worker.settings import Settings

Command = Coroutine[object, object, None]
Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # noqa: SLF001
"""What argparse hands out to add commands to; it has no other name for it."""

AUDIT_HELP: Final = """\
Holds the movies and the ledger of the whole database against what the worker promises: no slot
overbooked, every booked seat accounted for by a confirmed request or an opening balance, every
ledger entry whole, no version that went back. Prints a line for each violation and ends with
exit code 1 if there is any. Only tells: nothing is written, nothing is repaired.

Workers may go on meanwhile. The ledger is read once, sorted by MongoDB on its disk; with
readPreference=secondaryPreferred in the URI another member than the primary has that work."""
AUDIT_EXAMPLES: Final = """\
examples:
  reservation-worker audit
  reservation-worker audit --json | jq -r .movieId | sort | uniq -c
"""
ADOPT_HELP: Final = """\
Records for each time slot how many seats were booked before the worker came: what is booked and
not in the ledger. `audit` counts them from then on. A balance is recorded once, also where it is
0; adopting again records only time slots that are new, and never changes what is recorded. To be
run when the worker takes over a catalogue, and after an import of movies with booked seats;
workers may go on meanwhile."""
ADOPT_EXAMPLES: Final = """\
examples:
  reservation-worker movies adopt --dry-run
  reservation-worker movies adopt
"""


def add_audit(commands: Commands) -> argparse.ArgumentParser:
    """The command `audit`."""
    audit = _described(commands, "audit", "hold the database against the promises", AUDIT_HELP)
    audit.epilog = AUDIT_EXAMPLES
    audit.set_defaults(command_function=_audit)
    audit.add_argument("--json", action="store_true", help="a JSON object for each violation")
    audit.add_argument(
        "--limit", type=_not_negative, default=100, metavar="N", help="violations shown (100)"
    )
    return audit


def add_adopt(catalogue: Commands) -> argparse.ArgumentParser:
    """The command `movies adopt`."""
    summary = "record once what was booked before the worker came"
    adopt = _described(catalogue, "adopt", summary, ADOPT_HELP)
    adopt.epilog = ADOPT_EXAMPLES
    adopt.set_defaults(command_function=_adopt)
    adopt.add_argument("--dry-run", action="store_true", help="only say what would be recorded")
    return adopt


def _audit(settings: Settings, options: argparse.Namespace) -> Command:
    from worker.books.audit import audit_database

    return audit_database(settings, limit=options.limit, as_json=options.json)


def _adopt(settings: Settings, options: argparse.Namespace) -> Command:
    from worker.books.adoption import adopt_movies

    return adopt_movies(settings, dry_run=options.dry_run)


def _described(
    commands: Commands, name: str, summary: str, description: str
) -> argparse.ArgumentParser:
    return commands.add_parser(
        name,
        help=summary,
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _not_negative(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError("must be at least 0")
    return value
