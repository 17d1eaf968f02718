"""The command line: what can be asked for, and with which exit code each command ends.

Reads the settings, calls the module that does the work, and turns a WorkerError into one line.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import os
import re
import signal
import sys
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Final, NoReturn

from worker.commands.parsers import add_adopt, add_audit, add_dead_letters, add_replay
from worker.errors import (
    BrokerForbids,
    BrokerUnusable,
    DrainTimedOut,
    StoreForbids,
    StoreUnusable,
    WorkerError,
    causes,
)
from worker.logs import configure_logging
from worker.settings import PREFIX, Settings, load_settings

Command = Coroutine[object, object, None]

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

_SETTING_HELP: Final = {
    "amqp_url": "RabbitMQ, amqp:// or amqps://",
    "mongodb_uri": "MongoDB replica set or sharded cluster",
    "mongodb_database": "database name",
    "batch_size": "most requests decided in one commit",
    "prefetch": "unsettled deliveries a process may hold; 4 x batch size if not given",
    "log_level": "DEBUG, INFO, WARNING or ERROR",
    "log_format": "text or json; text on a terminal, else json, if not given",
    "drain_seconds": "longest graceful stop",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    options = _parser().parse_args(arguments)
    exit_code = 0
    try:
        settings = load_settings(
            **{name: getattr(options, name, None) for name in Settings.model_fields}
        )
        configure_logging(settings.log_level, settings.effective_log_format)
        _run(options.command_function(settings, options))
    except* WorkerError as failures:
        # Task groups wrap what ended them; one cause is what a person can act on.
        failure = next(causes(failures))
        print(f"reservation-worker: {failure}{_hint(failure)}", file=sys.stderr, flush=True)
        exit_code = failure.exit_code if isinstance(failure, WorkerError) else CRASHED
        if isinstance(failure, DrainTimedOut):
            # An orderly end would wait for the driver's threads, which may wait for a server.
            os._exit(exit_code)
    except* KeyboardInterrupt:
        exit_code = INTERRUPTED
    except* asyncio.CancelledError:
        exit_code = TERMINATED
    return exit_code


def _hint(failure: BaseException) -> str:
    if isinstance(failure, BrokerForbids | StoreForbids):
        return ""
    if isinstance(failure, BrokerUnusable | StoreUnusable):
        return " (`reservation-worker dev` starts both servers and a worker)"
    return ""


def _run(command: Command) -> None:
    """On uvloop where it exists: it takes less time for the frames of the broker."""
    factory: Callable[[], asyncio.AbstractEventLoop] | None = None
    if importlib.util.find_spec("uvloop"):
        factory = importlib.import_module("uvloop").new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(_cancelled_by_sigterm(command))


async def _cancelled_by_sigterm(command: Command) -> None:
    """As asyncio does it for Ctrl-C, so that servers are stopped and folders removed then too.

    A worker that is running takes the signal itself, for a drain.
    """
    task = asyncio.current_task()
    if task is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    await command


# Each command imports its module when it is called, so that `run` in a small image needs neither
# a terminal library nor embedded servers, and `--help` answers at once.


def _run_service(settings: Settings, options: argparse.Namespace) -> Command:
    if options.processes > 1:
        from worker.service.supervisor import run_processes

        return run_processes(settings, options.processes)
    from worker.service.runtime import run_worker

    return run_worker(settings, until_input_ends=options.until_input_ends)


def _dev(settings: Settings, options: argparse.Namespace) -> Command:
    from worker.devtools.dev import run_dev

    return run_dev(settings, options.folder)


def _demo(settings: Settings, options: argparse.Namespace) -> Command:
    from worker.devtools.demo import run_demo

    return run_demo(settings, requests=options.requests, workers=options.workers, keep=options.keep)


def _import_movies(settings: Settings, options: argparse.Namespace) -> Command:
    from worker.commands.import_movies import import_movies

    return import_movies(settings, options.file)


def _publish(settings: Settings, options: argparse.Namespace) -> Command:
    from worker.commands.publish import publish_requests

    return publish_requests(settings, options.file, wait=options.wait)


class _Parser(argparse.ArgumentParser):
    """One that repeats no argument which may be a URL with a password in it."""

    def error(self, message: str) -> NoReturn:
        """Show what is wrong and end with exit code 2."""
        if "@" in message or "://" in message:
            what, unrecognized, arguments = message.partition("unrecognized arguments: ")
            names = [word.partition("=")[0] for word in arguments.split() if word[0] == "-"]
            message = re.sub("'.*'", "'***'", what) + unrecognized + " ".join(names)
        super().error(message)


def _parser() -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = _Parser(
        prog="reservation-worker",
        description="Decides seat reservations from RabbitMQ in MongoDB.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_serving(commands)
    _add_feeding(commands)
    _add_settings(add_audit(commands), "mongodb_uri", "mongodb_database")
    *looking, redriving = add_dead_letters(commands)
    for command in looking:
        _add_settings(command, "amqp_url")
    for command in (redriving, add_replay(commands)):
        _add_settings(command, "amqp_url", "mongodb_uri", "mongodb_database")
    return parser


def _add_serving(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    run = _command(commands, "run", "run the service", _run_service)
    run.add_argument("--processes", type=_at_least(1), default=1, help="on this machine (1)")
    run.add_argument("--until-input-ends", action="store_true", help=argparse.SUPPRESS)
    _add_settings(run, *Settings.model_fields)

    dev = _command(commands, "dev", "both servers and a worker here, until Ctrl-C", _dev)
    dev.add_argument("--folder", type=Path, help="keep the servers' data here (default: nowhere)")
    _add_settings(dev, "batch_size", "prefetch", "log_level", "log_format", "drain_seconds")

    demo = _command(commands, "demo", "a premiere night on real servers, audited", _demo)
    demo.add_argument("--requests", type=_at_least(1), default=20_000, help="default: 20000")
    demo.add_argument("--workers", type=_at_least(1), default=2, help="worker processes (2)")
    demo.add_argument("--keep", action="store_true", help="keep the servers' data and the logs")


def _add_feeding(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    movies = commands.add_parser("movies", help="the catalogue: `movies import`, `movies adopt`")
    catalogue = movies.add_subparsers(title="commands", metavar="COMMAND", required=True)
    summary = "add movies, time slots and capacities"
    imports = _command(catalogue, "import", summary, _import_movies)
    imports.add_argument("file", metavar="FILE", help="JSON, or JSON lines; - is standard input")
    _add_settings(imports, "mongodb_uri", "mongodb_database")
    _add_settings(add_adopt(catalogue), "mongodb_uri", "mongodb_database")

    publish = _command(commands, "publish", "publish requests from a file", _publish)
    publish.add_argument("file", metavar="FILE", help="JSON lines; - is standard input")
    publish.add_argument("--wait", action="store_true", help="print outcomes until all are there")
    _add_settings(publish, "amqp_url")


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    summary: str,
    function: Callable[..., Command],
) -> argparse.ArgumentParser:
    added = commands.add_parser(name, help=summary, description=summary)
    added.set_defaults(command_function=function)
    return added


def _add_settings(parser: argparse.ArgumentParser, *names: str) -> None:
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


def _at_least(least: int) -> Callable[[str], int]:
    def integer(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"must be at least {least}")
        return value

    return integer
