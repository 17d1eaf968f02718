"""The command line: the commands there are, and the exit code with which each ends.

Reads the settings, calls the module that does the work, and turns a WorkerError into one line.
Refuses to know how any of it is done.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import logging
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NoReturn

from worker.commands.parsers.audit_parser import add_audit
from worker.commands.parsers.dead_letters_parser import add_dead_letters
from worker.commands.parsers.movies_parser import add_movies
from worker.commands.parsers.publish_parser import add_publish
from worker.commands.parsers.replay_parser import add_replay
from worker.commands.parsers.run_parser import add_run
from worker.commands.parsers.shared import Command, Commands, add_command, add_settings, at_least
from worker.errors import (
    BrokerForbids,
    BrokerUnusable,
    DevtoolsMissing,
    DrainTimedOut,
    StoreForbids,
    StoreUnusable,
    WorkerError,
    causes,
)
from worker.logs import configure_logging
from worker.settings import Settings, load_settings, unknown_variables

log: Final = logging.getLogger(__name__)

DISTRIBUTION: Final = "reservation-worker"
DEVTOOLS: Final = "worker.devtools"
EXIT_CODES: Final = """\
exit codes:
  0 stopped cleanly        3 RabbitMQ not usable     6 stop ran past the drain time
  1 crashed                4 MongoDB not usable
  2 bad settings or input  5 topology differs
"""
CRASHED: Final = 1
INTERRUPTED: Final = 130
TERMINATED: Final = 143
"""What a shell shows for a command ended by a signal: 128 and the signal's number."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    options = _parser().parse_args(arguments)
    exit_code = 0
    try:
        settings = load_settings(
            **{name: getattr(options, name, None) for name in Settings.model_fields}
        )
        configure_logging(settings.log_level, settings.effective_log_format)
        _warn_of_unknown_variables(options)
        _run(options.command_function(settings, options))
    except* WorkerError as failures:
        # A task group wraps the failures that ended it; a person can act on the first cause.
        failure = next(causes(failures))
        print(f"reservation-worker: {failure}{_hint(failure)}", file=sys.stderr, flush=True)
        exit_code = failure.exit_code if isinstance(failure, WorkerError) else CRASHED
        if isinstance(failure, DrainTimedOut):
            # An orderly exit would wait for the driver's threads, which may wait for a server.
            os._exit(exit_code)
    except* KeyboardInterrupt:
        exit_code = INTERRUPTED
    except* asyncio.CancelledError:
        exit_code = TERMINATED
    return exit_code


def _warn_of_unknown_variables(options: argparse.Namespace) -> None:
    if getattr(options, "until_input_ends", False):
        return  # The parent of this process has the same variables, and has warned of them.
    for line in unknown_variables():
        log.warning(line)


def _hint(failure: BaseException) -> str:
    if isinstance(failure, BrokerForbids | StoreForbids):
        return ""
    is_unusable = isinstance(failure, BrokerUnusable | StoreUnusable)
    if is_unusable and importlib.util.find_spec(DEVTOOLS):
        return " (`reservation-worker dev` starts both servers and a worker)"
    return ""


def _run(command: Command) -> None:
    """Run it on uvloop where that is installed: it handles the broker's frames in less time."""
    factory: Callable[[], asyncio.AbstractEventLoop] | None = None
    if importlib.util.find_spec("uvloop"):
        factory = importlib.import_module("uvloop").new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(_cancelled_by_sigterm(command))


async def _cancelled_by_sigterm(command: Command) -> None:
    """Cancel the command on SIGTERM, as asyncio does on Ctrl-C, so that it cleans up after itself.

    A running worker handles the signal itself, and drains.
    """
    task = asyncio.current_task()
    if task is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    await command


# Only this module imports worker.devtools, and only when it is called, as it may be left out.


def add_dev(commands: Commands) -> None:
    """Add ``dev``."""
    dev = add_command(commands, "dev", "run both servers and a worker here, until Ctrl-C", _dev)
    dev.add_argument("--folder", type=Path, help="keep the servers' data here (default: remove it)")
    add_settings(dev, ("batch_size", "prefetch", "log_level", "log_format", "drain_seconds"))


def _dev(settings: Settings, options: argparse.Namespace) -> Command:
    with _devtools_needed():
        from worker.devtools.dev import run_dev

    return run_dev(settings, options.folder)


def add_demo(commands: Commands) -> None:
    """Add ``demo``."""
    demo = add_command(commands, "demo", "a premiere rush on real servers, audited", _demo)
    demo.add_argument(
        "--requests", type=at_least(1), default=20_000, help="requests to publish (20000)"
    )
    demo.add_argument("--workers", type=at_least(1), default=2, help="worker processes (2)")
    demo.add_argument("--keep", action="store_true", help="keep the servers' data and logs")


def _demo(settings: Settings, options: argparse.Namespace) -> Command:
    with _devtools_needed():
        from worker.devtools.demo import run_demo

    return run_demo(settings, requests=options.requests, workers=options.workers, keep=options.keep)


@contextmanager
def _devtools_needed() -> Iterator[None]:
    """Raises DevtoolsMissing where they were left out, as they are from the image."""
    try:
        yield
    except ModuleNotFoundError as failure:
        if failure.name is None or not failure.name.startswith(DEVTOOLS):
            raise
        raise DevtoolsMissing(
            f"dev and demo need a checkout or the full package; this installation has no {DEVTOOLS}"
        ) from failure


COMMANDS: Final = (
    add_run,
    add_dev,
    add_demo,
    add_movies,
    add_publish,
    add_audit,
    add_dead_letters,
    add_replay,
)
"""Each adds its command to the parser; the help lists them in this order."""


class _Parser(argparse.ArgumentParser):
    """A parser whose errors repeat no argument that may be a URL with a password in it."""

    def error(self, message: str) -> NoReturn:
        """Show what is wrong and end with exit code 2."""
        if "@" in message or "://" in message:
            what, unrecognized, arguments = message.partition("unrecognized arguments: ")
            names = [word.partition("=")[0] for word in arguments.split() if word[0] == "-"]
            message = re.sub("'.*'", "'***'", what) + unrecognized + " ".join(names)
        super().error(message)


class _ShowVersion(argparse.Action):
    """Looks the version up only when it is asked for, so that no other command waits for it."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object, **__: object) -> NoReturn:
        """Print the distribution's name and version, and end with exit code 0."""
        from importlib import metadata

        try:
            version = metadata.version(DISTRIBUTION)
        except metadata.PackageNotFoundError:
            version = "(not installed, so its version is unknown)"
        print(DISTRIBUTION, version, flush=True)
        parser.exit()


def _parser() -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = _Parser(
        prog=DISTRIBUTION,
        description="Decides seat reservations from RabbitMQ in MongoDB.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_ShowVersion, nargs=0, help="show the version and exit")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for add in COMMANDS:
        add(commands)
    return parser
