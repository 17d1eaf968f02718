"""The command ``audit``: checks that what is stored keeps the promises."""

from __future__ import annotations

import argparse
from typing import Final

from worker.commands.parsers.shared import (
    MONGODB,
    Command,
    Commands,
    add_command,
    add_settings,
    at_least,
)
from worker.settings import Settings

AUDIT_HELP: Final = """\
Checks the movies and the ledger of the whole database against what the worker promises: no slot
overbooked, every booked seat accounted for by a confirmed request or an opening balance, every
ledger entry complete, no version that went back. Prints a line for each violation and ends with
exit code 1 if there is any. It writes nothing and repairs nothing.

Workers may keep running meanwhile. The ledger is read once, sorted by MongoDB on its disk; with
readPreference=secondaryPreferred in the URI, a secondary does that work instead of the primary."""
AUDIT_EXAMPLES: Final = """\
examples:
  reservation-worker audit
  reservation-worker audit --json | jq -r .movieId | sort | uniq -c
"""


def add_audit(commands: Commands) -> None:
    """Add ``audit``."""
    audit = add_command(
        commands,
        "audit",
        "check the database against what the worker promises",
        _audit,
        description=AUDIT_HELP,
        examples=AUDIT_EXAMPLES,
    )
    audit.add_argument("--json", action="store_true", help="print a JSON object for each violation")
    audit.add_argument(
        "--limit", type=at_least(0), default=100, metavar="N", help="most violations shown (100)"
    )
    add_settings(audit, MONGODB)


def _audit(settings: Settings, options: argparse.Namespace) -> Command:
    from worker.commands.audit.findings import audit_database

    return audit_database(settings, limit=options.limit, as_json=options.json)
