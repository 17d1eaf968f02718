"""The command ``publish``: requests from a file."""

from __future__ import annotations

import argparse

from worker.commands.parsers.shared import RABBITMQ, Command, Commands, add_command, add_settings
from worker.settings import Settings


def add_publish(commands: Commands) -> None:
    """Add ``publish``."""
    publish = add_command(commands, "publish", "publish requests from a file", _publish)
    publish.add_argument("file", metavar="FILE", help="JSON lines; - for standard input")
    publish.add_argument(
        "--wait", action="store_true", help="print outcomes until every request has one"
    )
    add_settings(publish, RABBITMQ)


def _publish(settings: Settings, options: argparse.Namespace) -> Command:
    from worker.commands.publish import publish_requests

    return publish_requests(settings, options.file, wait=options.wait)
