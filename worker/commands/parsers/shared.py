"""What the parsers share: how a command is added, options for its settings, types of arguments."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from datetime import datetime
from typing import Final, TypeAlias

from worker.settings import PREFIX, Settings

Command = Coroutine[object, object, None]
CommandFunction = Callable[[Settings, argparse.Namespace], Command]
# argparse has no public name for it.
Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # noqa: SLF001
"""What argparse returns for adding commands to."""

RABBITMQ: Final = ("amqp_url",)
MONGODB: Final = ("mongodb_uri", "mongodb_database")
BOTH_SERVERS: Final = RABBITMQ + MONGODB
"""The settings of a command that needs these servers."""

_SETTING_HELP: Final = {
    "amqp_url": "RabbitMQ, amqp:// or amqps://",
    "mongodb_uri": "MongoDB replica set or sharded cluster",
    "mongodb_database": "database name",
    "batch_size": "most requests decided in one commit",
    "prefetch": "unsettled deliveries a process may hold; by default 4 x batch size",
    "log_level": "DEBUG, INFO, WARNING or ERROR",
    "log_format": "text or json; by default text on a terminal, else json",
    "drain_seconds": "longest graceful stop",
}


def add_command(
    commands: Commands,
    name: str,
    summary: str,
    function: CommandFunction,
    *,
    description: str | None = None,
    examples: str | None = None,
) -> argparse.ArgumentParser:
    """Add a command that ``function`` runs; its settings are added last, by ``add_settings``."""
    parser = commands.add_parser(
        name,
        help=summary,
        description=description or summary,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(command_function=function)
    return parser


def add_group(
    commands: Commands,
    name: str,
    summary: str,
    *,
    description: str | None = None,
    examples: str | None = None,
) -> Commands:
    """Add a name that only groups commands; those are added to what this returns."""
    parser = commands.add_parser(
        name,
        help=summary,
        description=description,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    return parser.add_subparsers(title="commands", metavar="COMMAND", required=True)


def add_settings(parser: argparse.ArgumentParser, names: Iterable[str]) -> None:
    """An option for each setting, with its environment variable and default beside it."""
    group = parser.add_argument_group("settings (also from the environment and .env)")
    for name in names:
        variable, default = PREFIX + name.upper(), Settings.model_fields[name].default
        shown = "" if default is None else f" (default: {default})"
        group.add_argument(
            "--" + name.replace("_", "-"),
            metavar=name.rpartition("_")[2].upper(),
            help=f"{_SETTING_HELP[name]} [{variable}]{shown}",
        )


def add_caution(parser: argparse.ArgumentParser) -> None:
    """The options of a command that asks before it does what cannot be undone."""
    parser.add_argument("--dry-run", action="store_true", help="only show what would be done")
    parser.add_argument("--yes", action="store_true", help="do not ask for confirmation")


def at_least(least: int) -> Callable[[str], int]:
    """The type of an argument that is an integer of at least this."""

    def integer(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"must be at least {least}")
        return value

    return integer


def moment(text: str) -> datetime:
    """The type of an argument that is a time, with an offset to say whose clock it is on."""
    parsed: datetime | None = None
    with suppress(ValueError):
        parsed = datetime.fromisoformat(text)
    if parsed is None or parsed.tzinfo is None:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a time with an offset, such as 2026-11-22T18:00:00Z"
        )
    return parsed
