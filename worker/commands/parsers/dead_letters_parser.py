"""The commands ``dead-letters list``, ``show``, ``drop`` and ``redrive``."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Final

from worker.commands.parsers.shared import (
    BOTH_SERVERS,
    RABBITMQ,
    Command,
    Commands,
    add_caution,
    add_command,
    add_group,
    add_settings,
    at_least,
)
from worker.settings import Settings

if TYPE_CHECKING:
    from worker.commands.dead_letters.selection import Selection

DEAD_LETTERS_HELP: Final = """\
Dead letters are what could not be decided, as it arrived, with the reason in two headers. These
commands look at them, send them back, or drop them. A dead letter is selected if it matches each
of --error, --movie and --id that is given; of one that is given several times, any value will do.
An id is that of a request, or the name of a dead letter as `list` shows it.

RabbitMQ cannot show a message in a queue without taking it out and returning it. So nothing else
may consume the queue meanwhile, and only one of these commands can run at a time. Dead letters that
are not removed keep their order; before RabbitMQ 4 they go behind those that arrived meanwhile.
From 4.0 to 4.2 each look counts towards the queue's delivery limit: a dead letter that was returned
ten times is therefore replaced by a copy of itself, so that looking never loses one. A copy keeps
everything that a worker writes on a dead letter, and all headers that are strings."""
DEAD_LETTERS_EXAMPLES: Final = """\
examples:
  reservation-worker dead-letters list --error undeliverable
  reservation-worker dead-letters show 3f1c09a2b7
  reservation-worker dead-letters redrive --movie the-last-lighthouse --dry-run
  reservation-worker dead-letters drop --error unreadable_request --yes
"""
REDRIVE_HELP: Final = """\
Sends dead letters back to the request queue as they were: body, content type, correlation id,
reply-to and trace context, without the headers about the error. If the ledger already has the
outcome of the request, that outcome is published instead; if it has the outcome of another request
with the same id, the dead letter stays, because it would only come back. A dead letter is removed
once the broker has confirmed what takes its place. Only dead letters that are there at the start
are redriven, so that those which come back do not go round in circles."""


def add_dead_letters(commands: Commands) -> None:
    """Add ``dead-letters list``, ``show``, ``drop`` and ``redrive``."""
    actions = add_group(
        commands,
        "dead-letters",
        "what could not be decided: list, show, redrive, drop",
        description=DEAD_LETTERS_HELP,
        examples=DEAD_LETTERS_EXAMPLES,
    )
    _add_list(actions)
    _add_show(actions)
    _add_drop(actions)
    _add_redrive(actions)


def _add_list(actions: Commands) -> None:
    listing = add_command(
        actions,
        "list",
        "count dead letters by error, and list the oldest",
        _list,
        description=DEAD_LETTERS_HELP,
    )
    listing.add_argument(
        "--limit", type=at_least(0), default=20, metavar="N", help="most dead letters listed (20)"
    )
    _add_selection(listing)
    add_settings(listing, RABBITMQ)


def _add_show(actions: Commands) -> None:
    showing = add_command(
        actions,
        "show",
        "show one dead letter in full",
        _show,
        description=DEAD_LETTERS_HELP,
    )
    showing.add_argument("id", metavar="ID", help="of the request, or the name of the dead letter")
    add_settings(showing, RABBITMQ)


def _add_drop(actions: Commands) -> None:
    dropping = add_command(
        actions,
        "drop",
        "remove dead letters for good",
        _drop,
        description=DEAD_LETTERS_HELP,
    )
    dropping.add_argument("--all", action="store_true", help="every dead letter there is")
    _add_selection(dropping)
    add_caution(dropping)
    add_settings(dropping, RABBITMQ)


def _add_redrive(actions: Commands) -> None:
    redriving = add_command(
        actions,
        "redrive",
        "send dead letters back to the request queue",
        _redrive,
        description=REDRIVE_HELP,
    )
    _add_selection(redriving)
    add_caution(redriving)
    add_settings(redriving, BOTH_SERVERS)


def _add_selection(action: argparse.ArgumentParser) -> None:
    for option, what in (("error", "only with this error"), ("movie", "only for this movie")):
        action.add_argument(
            f"--{option}", action="append", default=[], metavar=option.upper(), help=what
        )
    what = "only of this request, or with this name"
    action.add_argument("--id", action="append", default=[], metavar="ID", help=what)


def _selection(options: argparse.Namespace) -> Selection:
    from worker.commands.dead_letters.selection import Selection

    return Selection(tuple(options.error), tuple(options.movie), tuple(options.id))


def _list(settings: Settings, options: argparse.Namespace) -> Command:
    from worker.commands.dead_letters.show import list_dead_letters

    return list_dead_letters(settings, _selection(options), limit=options.limit)


def _show(settings: Settings, options: argparse.Namespace) -> Command:
    from worker.commands.dead_letters.show import show_dead_letter

    return show_dead_letter(settings, options.id)


def _drop(settings: Settings, options: argparse.Namespace) -> Command:
    from worker.commands.dead_letters.drop import drop_dead_letters

    return drop_dead_letters(
        settings,
        _selection(options),
        everything=options.all,
        dry_run=options.dry_run,
        yes=options.yes,
    )


def _redrive(settings: Settings, options: argparse.Namespace) -> Command:
    from worker.commands.dead_letters.redrive import redrive_dead_letters

    return redrive_dead_letters(
        settings, _selection(options), dry_run=options.dry_run, yes=options.yes
    )
