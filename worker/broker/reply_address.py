"""Whether a reply may be sent where a request asks for it.

RabbitMQ answers a forged address of its direct reply-to with an internal error, which takes the
connection with it, and with the connection everybody else's events. A genuine one carries, in
base64, the name of a process in Erlang's external format, and a key.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final

DIRECT_REPLY_TO: Final = "amq.rabbitmq.reply-to"

# NEW_PID_EXT: an atom (118: two bytes of length, 119: one), then id, serial and creation of four
# bytes each. https://www.erlang.org/doc/apps/erts/erl_ext_dist.html#new_pid_ext
_PROCESS: Final = re.compile(rb"\x83X(?:v(?P<long>..)|w(?P<short>.))(?P<name>.+).{12}", re.DOTALL)


def reply_address(reply_to: str | None) -> str | None:
    """The queue that a copy of the event goes to, or None for no or no usable address."""
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
    """The bytes, or none at all for what is not base64."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""
