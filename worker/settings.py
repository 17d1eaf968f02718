"""The settings of the service: environment variables, a ``.env`` file, and defaults.

Nothing is read at import, and no value that may hold a password is ever shown in full. Refuses to
know what the settings are for.
"""

from __future__ import annotations

import os
import re
import sys
from difflib import get_close_matches
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    EnvSettingsSource,
    SettingsConfigDict,
)

from worker.errors import BadSettings
from worker.redaction import without_password

PREFIX: Final = "RESERVATION_"
PREFETCH_BATCHES: Final = 4
"""Batches held by default: one being announced, one being committed, and two arriving."""

_NO_PORT: Final = re.compile(r":(?!//)(?!\d+(?:[/?,]|$))[^/?,]+")
_WHITE_SPACE: Final = re.compile(r"\s+")


def _amqp_url(value: str) -> str:
    _require_escaped(value, "/?#")
    parts = urlsplit(value)
    if parts.scheme not in {"amqp", "amqps"} or not parts.hostname:
        raise ValueError("not an AMQP URL")
    _ = parts.port  # Raises ValueError if it is not a port number.
    return value


def _mongodb_uri(value: str) -> str:
    if not re.match(r"mongodb(\+srv)?://[^/?#]", value):
        raise ValueError("not a MongoDB URI")
    _require_escaped(value, "/?")
    return value


def _require_escaped(url: str, ends: str) -> None:
    """Raise ValueError if a password seems to continue past a character that ends the host part.

    A client would take the beginning of that password for a port, and show it in its error.
    """
    rest = re.sub(rf"^[a-z+]+://[^{ends}]*", "", url, flags=re.IGNORECASE)
    path, _, query = rest.partition("?")
    if "@" in path or ("@" in query and not path.startswith("/")):
        raise ValueError("not percent-encoded")


def _upper(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


_TAKES: Final = {
    "amqp_url": "a URL such as amqp://user:password@host:5672/vhost, or amqps:// for TLS, "
    "with %40 for @, %2F for / and so on in its parts",
    "mongodb_uri": "a URI such as mongodb://user:password@host:27017/?replicaSet=rs0, "
    "with %40 for @, %2F for / and so on in its parts",
    "mongodb_database": '1 to 63 characters without any of / \\ . " $ * < > : | ? and spaces',
    "batch_size": "an integer from 1 to 10000",
    "prefetch": "an integer from 1 to 65535",
    "log_level": "DEBUG, INFO, WARNING or ERROR",
    "log_format": "text or json",
    "drain_seconds": "a number of seconds from 0 to 3600",
}


class Settings(BaseSettings):
    """How a worker runs; each field is also the environment variable ``RESERVATION_<FIELD>``."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_file=".env", extra="ignore", frozen=True, env_ignore_empty=True
    )

    amqp_url: Annotated[str, AfterValidator(_amqp_url)] = Field(
        "amqp://guest:guest@localhost:5672/", repr=False
    )
    mongodb_uri: Annotated[str, AfterValidator(_mongodb_uri)] = Field(
        "mongodb://localhost:27017/?replicaSet=rs0", repr=False
    )
    mongodb_database: Annotated[str, Field(pattern=r'^[^/\\. "$*<>:|?\x00]{1,63}$')] = (
        "reservations"
    )
    batch_size: Annotated[int, Field(ge=1, le=10_000)] = 500
    # AMQP's basic.qos holds the count in 16 bits.
    prefetch: Annotated[int | None, Field(ge=1, le=65_535)] = None
    log_level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], BeforeValidator(_upper)] = (
        "INFO"
    )
    log_format: Literal["text", "json"] | None = None
    drain_seconds: Annotated[float, Field(ge=0, le=3600)] = 25

    @property
    def prefetch_count(self) -> int:
        """The unsettled deliveries that this process may hold."""
        return self.prefetch or min(PREFETCH_BATCHES * self.batch_size, 65_535)

    @property
    def effective_log_format(self) -> Literal["text", "json"]:
        """Text for a person at a terminal, JSON for whatever collects logs."""
        return self.log_format or ("text" if sys.stderr.isatty() else "json")


def load_settings(**overrides: object) -> Settings:
    """Read the settings; ``overrides`` come from the command line, where None means not given.

    Raises BadSettings with one line that names each variable, what it holds and what it takes.
    """
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        return Settings(**given)  # type: ignore[arg-type]  # Checked by pydantic itself.
    except ValidationError as faults:
        lines = [_explain(fault["loc"], fault["input"]) for fault in faults.errors()]
        raise BadSettings("; ".join(lines)) from None


KUBERNETES: Final = "KUBERNETES_SERVICE_HOST"
_OF_A_SERVICE: Final = re.compile(r"_(service_(host|port(_\w+)?)|port(_\d+_\w+)?)$", re.IGNORECASE)
"""What Kubernetes adds to every pod for each Service, and so for one named ``reservation-…``:
https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables"""


def unknown_variables() -> list[str]:
    """A line for each variable with our prefix that is not a setting, with the nearest setting.

    Only names are shown, never a value, which may be a password under a misspelt name.
    """
    settings = [name.upper() for name in Settings.model_fields]
    lines = []
    for name in sorted(_given_names()):
        nearest = get_close_matches(name.removeprefix(PREFIX), settings, n=1)
        hint = f"; did you mean {PREFIX}{nearest[0]}?" if nearest else ""
        lines.append(f"{name} is not a setting and is ignored{hint}")
    return lines


def _given_names() -> set[str]:
    """The variables with our prefix that are not settings, from the environment and ``.env``."""
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    environment = set(EnvSettingsSource(Settings).env_vars)
    if KUBERNETES in os.environ:
        environment = {name for name in environment if not _OF_A_SERVICE.search(name)}
    given = environment | DotEnvSettingsSource(Settings).env_vars.keys()
    ours = {name.upper() for name in given} - known
    # Where .env lacks the = after a name, what is read as the name may contain a URL.
    return {re.sub(r"\W.*", "…", name, flags=re.DOTALL) for name in ours if name.startswith(PREFIX)}


def environment_of(settings: Settings) -> dict[str, str]:
    """The environment of a child process with these settings, and all else that it inherits."""
    own = {
        PREFIX + name.upper(): str(value)
        for name, value in settings.model_dump().items()
        if value is not None
    }
    return {**os.environ, **own}


def _explain(location: tuple[int | str, ...], held: object) -> str:
    name = str(location[0]) if location else "settings"
    # In a malformed URL, a password may be where the port should be.
    shown = _NO_PORT.sub(":***", _WHITE_SPACE.sub(" ", without_password(str(held))))
    return f"{PREFIX}{name.upper()} is {shown!r}; it takes {_TAKES.get(name, 'another value')}"
