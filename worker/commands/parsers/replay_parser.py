"""The command ``replay``: publishes recorded outcomes again."""

from __future__ import annotations

import argparse
from typing import Final

from worker.commands.parsers.shared import (
    BOTH_SERVERS,
    Command,
    Commands,
    add_caution,
    add_command,
    add_settings,
    moment,
)
from worker.settings import Settings

REPLAY_HELP: Final = """\
Publishes recorded outcomes again, for a subscriber that lost its data: every subscriber gets them,
and drops what it has seen by the message id. Each event has the message id and the content of the
first one; its correlation id is the request id, as the ledger keeps no other. An outcome is
selected if it matches everything that is given. Outcomes come roughly in the order in which they
were recorded, or by request id if ids are given.

Request ids are looked up in an index. There is none for movies and times, so for these the whole
ledger is read twice: first to count, then to publish."""
REPLAY_EXAMPLES: Final = """\
examples:
  reservation-worker replay r-1 r-2
  reservation-worker replay --movie the-last-lighthouse --since 2026-11-22T18:00:00Z --dry-run
  reservation-worker replay --all --yes
"""


def add_replay(commands: Commands) -> None:
    """Add ``replay``."""
    replay = add_command(
        commands,
        "replay",
        "publish recorded outcomes again",
        _replay,
        description=REPLAY_HELP,
        examples=REPLAY_EXAMPLES,
    )
    replay.add_argument("ids", nargs="*", metavar="REQUEST_ID", help="only of these requests")
    replay.add_argument("--movie", metavar="ID", help="only of this movie")
    for option, what in (
        ("since", "only decided then or later"),
        ("until", "only decided before then"),
    ):
        replay.add_argument(f"--{option}", type=moment, metavar="TIME", help=what)
    replay.add_argument("--all", action="store_true", help="every outcome there is")
    add_caution(replay)
    add_settings(replay, BOTH_SERVERS)


def _replay(settings: Settings, options: argparse.Namespace) -> Command:
    from worker.commands.replay import replay_outcomes
    from worker.store.ledger import Selection

    return replay_outcomes(
        settings,
        Selection(tuple(options.ids), options.movie, options.since, options.until),
        everything=options.all,
        dry_run=options.dry_run,
        yes=options.yes,
    )
