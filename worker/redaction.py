"""Keeps secrets out of what is shown: the passwords in URLs that logs and errors mention.

Hides too much rather than too little. Refuses to know what the URLs are for.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote

_CREDENTIALS: Final = re.compile(r"^([a-z+]+:(?://)?)?.*@", re.IGNORECASE | re.DOTALL)
_SECRET_OPTION: Final = re.compile(
    r"([?&;][^=&;]*(?:password|secret|token)[^=&;]*=)([^&]*)", re.IGNORECASE
)
_AUTH_PROPERTIES: Final = re.compile(r"([?&;]authMechanismProperties=)([^&]*)", re.IGNORECASE)
_PASSWORD: Final = re.compile(r"^[a-z+]+:(?://)?[^:@]*:(.*)@", re.IGNORECASE | re.DOTALL)
_FRAGMENT_CHARACTERS_MIN: Final = 3
"""Shorter pieces occur in every sentence, and hiding them there would give them away."""


def without_password(url: str) -> str:
    """The URL with ``***`` for everything that may be a secret, so that it can be logged.

    Everything before the last ``@`` goes, not only a well-formed user and password: it is the
    malformed URLs that end up in error messages.
    """
    shown = url
    for secret in (_SECRET_OPTION, _AUTH_PROPERTIES):
        shown = secret.sub(r"\1***", shown)
    return _CREDENTIALS.sub(r"\1***@", shown)


def without_secrets(text: str, url: str) -> str:
    """What a library says about a URL, with ``***`` for each piece of a secret in the URL.

    Pieces, because a library that did not understand the URL may have cut it anywhere.
    """
    secrets = [found[1] for found in _PASSWORD.finditer(url)]
    for option in (_SECRET_OPTION, _AUTH_PROPERTIES):
        secrets += [found[2] for found in option.finditer(url)]
    forms = {form for secret in secrets for form in (secret, unquote(secret))}
    pieces = {piece for form in forms for piece in re.split(r"\W+", form)}
    for piece in sorted(pieces, key=len, reverse=True):
        if len(piece) >= _FRAGMENT_CHARACTERS_MIN:
            text = text.replace(piece, "***")
    return text
