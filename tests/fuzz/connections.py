"""URLs of servers, with a password: however wrong a URL is, its password is never shown."""

from __future__ import annotations

import warnings
from typing import Final

from pymongo.errors import PyMongoError
from pymongo.uri_parser import parse_uri
from yarl import URL

from tests.fuzz.choices import Choices
from worker.errors import BadSettings
from worker.redaction import without_password, without_secrets
from worker.settings import load_settings

SECRET: Final = "hunter2"
SCHEMES: Final = ("amqp", "amqps", "mongodb", "http", "")
SEPARATORS: Final = ("://", ":", ":/", "//", "")
SECRET_OPTIONS: Final = ("", "tlsCertificateKeyFilePassword", "authMechanismProperties")


def connections(data: bytes) -> None:
    """Settings and clients accept or refuse the URL, and no message shows the password."""
    choices = Choices(data)
    scheme = choices.one_of(SCHEMES)
    separator = choices.one_of(SEPARATORS)
    option = choices.one_of(SECRET_OPTIONS)
    before, after, rest = (choices.piece(12).decode("latin-1") for _ in range(3))
    if SECRET in before + after + rest:
        return  # Only the password must be hidden, so the text may not occur elsewhere.
    url = f"{scheme}{separator}user:{before}{SECRET}{after}@host{rest}"
    if option:
        url += f"{'&' if '?' in rest else '/?'}{option}={before.replace('&', '')}{SECRET}"
    for name in ("amqp_url", "mongodb_uri"):
        shown = _shown(name, url)
        assert SECRET not in shown, (url, shown)


def _shown(name: str, url: str) -> str:
    """Every message about this URL that may be shown."""
    try:
        load_settings(**{name: url})
    except BadSettings as refusal:
        return str(refusal)
    return without_password(url) + without_secrets(_client_message(name, url), url)


def _client_message(name: str, url: str) -> str:
    """What the client library says about a URL that the settings accept."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            URL(url) if name == "amqp_url" else parse_uri(url)
        except (ValueError, PyMongoError) as failure:
            return str(failure)
    return "; ".join(str(warning.message) for warning in caught)
