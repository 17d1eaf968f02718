"""Whether a reply may be sent to the address that a request asks for.

RabbitMQ answers a forged direct reply-to address with an internal error that closes the connection,
and with it all other replies that are under way. A genuine address holds, in base64, the name of a
process in Erlang's external format, and a key.
"""

from __future__ import annotations

import base64
import re
from typing import Final

DIRECT_REPLY_TO: Final = "amq.rabbitmq.reply-to"

# NEW_PID_EXT: an atom (tag 118 with two bytes of length, or 119 with one), then id, serial and
# creation of four bytes each. https://www.erlang.org/doc/apps/erts/erl_ext_dist.html#new_pid_ext
_PROCESS: Final = re.compile(rb"\x83X(?:v(?P<long>..)|w(?P<short>.))(?P<name>.+).{12}", re.DOTALL)


def reply_address(reply_to: str | None) -> str | None:
    """The queue that a copy of the event goes to; None if there is no address that can be used."""
    if not reply_to or not reply_to.startswith(DIRECT_REPLY_TO):
        return reply_to or None
    _, _, suffix = reply_to.partition(f"{DIRECT_REPLY_TO}.")
    process, _, key = suffix.partition(".")
    return reply_to if _is_process(process) and _decoded(key) else None


def _is_process(text: str) -> bool:
    found = _PROCESS.fullmatch(_decoded(text))
    if found is None:
        return False
    length = found["long"] or found["short"]
    return int.from_bytes(length, "big") == len(found["name"])


def _decoded(text: str) -> bytes:
    """The decoded bytes, and no bytes if the text is not base64."""
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        return b""
