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
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Final, TypeAlias

from worker.settings import Settings

if TYPE_CHECKING:
    from worker.commands.dead_letters.selection import Filter

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
DEAD_LETTERS_HELP: Final = """\
Dead letters are what could not be decided, as it arrived, with the reason in two headers.
These commands look at them, send them back, or drop them. Dead letters are chosen by all of
--error, --movie and --id that are given, each of which may be given several times; an id is that of
a request, or the name of a dead letter as `list` shows it.

RabbitMQ has no way to look at a message in a queue without taking it out and returning it, so:
nobody else may consume the queue meanwhile, and only one of these commands can run at a time. Dead
letters that are not removed keep their order; before RabbitMQ 4 they go behind those that came
meanwhile. From 4.0 to 4.2 each look counts towards the queue's delivery limit: a dead letter that
was returned ten times is therefore replaced by a copy of itself, so looking never loses one. A copy
keeps all that a worker writes on a dead letter, and all headers that are texts."""
DEAD_LETTERS_EXAMPLES: Final = """\
examples:
  reservation-worker dead-letters list --error undeliverable
  reservation-worker dead-letters show 3f1c09a2b7
  reservation-worker dead-letters redrive --movie the-last-lighthouse --dry-run
  reservation-worker dead-letters drop --error unreadable_request --yes
"""
REDRIVE_HELP: Final = """\
Sends dead letters back to the request queue as they were: body, content type, correlation id,
reply-to and trace context, without the headers about the error. Where the ledger has the outcome of
the request already, that outcome is published instead; where it has the outcome of another request
with the same id, the dead letter stays, because it would only come back. A dead letter is removed
when the broker has confirmed what takes its place. Only dead letters that are there at the start
are redriven, so that those which come back are not sent round and round."""
REPLAY_HELP: Final = """\
Publishes recorded outcomes again, for a subscriber that lost its data: every subscriber gets them,
and drops what it has seen by the message id. Each event has the message id and the content of the
first one; its correlation id is the request id, as the ledger keeps no other. Outcomes are chosen
by all that is given, and come in about the order in which they were recorded, or by request id
where ids are given.

Request ids are found at once. A movie or a time has no index in the ledger, which is then read
twice as a whole: to count first, and to publish."""
REPLAY_EXAMPLES: Final = """\
examples:
  reservation-worker replay r-1 r-2
  reservation-worker replay --movie the-last-lighthouse --since 2026-11-22T18:00:00Z --dry-run
  reservation-worker replay --all --yes
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


def add_dead_letters(commands: Commands) -> tuple[argparse.ArgumentParser, ...]:
    """The commands `dead-letters list`, `show`, `drop` and, the last, `redrive`."""
    summary = "what could not be decided: list, show, redrive, drop"
    dead_letters = _described(commands, "dead-letters", summary, DEAD_LETTERS_HELP)
    dead_letters.epilog = DEAD_LETTERS_EXAMPLES
    actions = dead_letters.add_subparsers(title="commands", metavar="COMMAND", required=True)
    listing = _described(actions, "list", "count by error, and list the oldest", DEAD_LETTERS_HELP)
    listing.set_defaults(command_function=_list_dead_letters)
    listing.add_argument(
        "--limit", type=_not_negative, default=20, metavar="N", help="dead letters listed (20)"
    )
    showing = _described(actions, "show", "show one dead letter whole", DEAD_LETTERS_HELP)
    showing.set_defaults(command_function=_show_dead_letter)
    showing.add_argument("id", metavar="ID", help="of the request, or the dead letter's own")
    dropping = _described(actions, "drop", "take dead letters away for good", DEAD_LETTERS_HELP)
    dropping.set_defaults(command_function=_drop_dead_letters)
    dropping.add_argument("--all", action="store_true", help="every dead letter there is")
    redriving = _described(actions, "redrive", "send dead letters back", REDRIVE_HELP)
    redriving.set_defaults(command_function=_redrive_dead_letters)
    for action in (listing, dropping, redriving):
        for option, what in (("error", "with this error"), ("movie", "for this movie")):
            action.add_argument(
                f"--{option}", action="append", default=[], metavar=option.upper(), help=what
            )
        what = "of this request, or of this name"
        action.add_argument("--id", action="append", default=[], metavar="ID", help=what)
    for action in (dropping, redriving):
        _add_caution(action)
    return listing, showing, dropping, redriving


def add_replay(commands: Commands) -> argparse.ArgumentParser:
    """The command `replay`."""
    replay = _described(commands, "replay", "publish recorded outcomes again", REPLAY_HELP)
    replay.epilog = REPLAY_EXAMPLES
    replay.set_defaults(command_function=_replay)
    replay.add_argument("ids", nargs="*", metavar="REQUEST_ID", help="of these requests")
    replay.add_argument("--movie", metavar="ID", help="of this movie")
    for option, what in (("since", "decided then or later"), ("until", "decided before then")):
        replay.add_argument(f"--{option}", type=_moment, metavar="TIME", help=what)
    replay.add_argument("--all", action="store_true", help="all outcomes there are")
    _add_caution(replay)
    return replay


def _audit(settings: Settings, options: argparse.Namespace) -> Command:
    from worker.commands.audit.findings import audit_database

    return audit_database(settings, limit=options.limit, as_json=options.json)


def _adopt(settings: Settings, options: argparse.Namespace) -> Command:
    from worker.commands.audit.adoption import adopt_movies

    return adopt_movies(settings, dry_run=options.dry_run)


def _choice(options: argparse.Namespace) -> Filter:
    from worker.commands.dead_letters.selection import Filter

    return Filter(options.error, options.movie, options.id)


def _list_dead_letters(settings: Settings, options: argparse.Namespace) -> Command:
    from worker.commands.dead_letters.show import list_dead_letters

    return list_dead_letters(settings, _choice(options), limit=options.limit)


def _show_dead_letter(settings: Settings, options: argparse.Namespace) -> Command:
    from worker.commands.dead_letters.show import show_dead_letter

    return show_dead_letter(settings, options.id)


def _drop_dead_letters(settings: Settings, options: argparse.Namespace) -> Command:
    from worker.commands.dead_letters.drop import drop_dead_letters

    return drop_dead_letters(
        settings,
        _choice(options),
        everything=options.all,
        dry_run=options.dry_run,
        yes=options.yes,
    )


def _redrive_dead_letters(settings: Settings, options: argparse.Namespace) -> Command:
    from worker.commands.dead_letters.redrive import redrive_dead_letters

    return redrive_dead_letters(
        settings, _choice(options), dry_run=options.dry_run, yes=options.yes
    )


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


def _add_caution(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="only say what would be done")
    parser.add_argument("--yes", action="store_true", help="do not ask")


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


def _moment(text: str) -> datetime:
    """A time with an offset: whose clock it is must be said."""
    moment: datetime | None = None
    with suppress(ValueError):
        moment = datetime.fromisoformat(text)
    if moment is None or moment.tzinfo is None:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no time with an offset, such as 2026-11-22T18:00:00Z"
        )
    return moment
