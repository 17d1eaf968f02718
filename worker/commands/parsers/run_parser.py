"""The command ``run``: the service itself."""

from __future__ import annotations

import argparse

from worker.commands.parsers.shared import Command, Commands, add_command, add_settings, at_least
from worker.settings import Settings


def add_run(commands: Commands) -> None:
    """Add ``run``."""
    run = add_command(commands, "run", "run the service", _run)
    run.add_argument(
        "--processes", type=at_least(1), default=1, help="worker processes on this machine (1)"
    )
    run.add_argument("--until-input-ends", action="store_true", help=argparse.SUPPRESS)
    add_settings(run, Settings.model_fields)


def _run(settings: Settings, options: argparse.Namespace) -> Command:
    if options.processes > 1:
        from worker.service.supervisor import run_processes

        return run_processes(settings, options.processes)
    from worker.service.runtime import run_worker

    return run_worker(settings, until_input_ends=options.until_input_ends)
