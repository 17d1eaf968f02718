"""A wire to RabbitMQ that tells whether a worker consumes: it sees acknowledgements pass."""

from __future__ import annotations

import time
from typing import Final

from tests.faults.proxy import Proxy

BASIC_DELIVER: Final = b"\x00\x3c\x00\x3c"
BASIC_ACK: Final = b"\x00\x3c\x00\x50"
"""Class and method as they open the payload of a frame: AMQP 0-9-1, 1.8.3.13 and 1.8.3.14."""


class BrokerWire(Proxy):
    """Between one worker and RabbitMQ.

    ``consuming_since`` is when the worker acknowledged what was delivered to it on connections
    that still stand, or None. Not what a worker says of itself, and not what the broker still
    believes of a consumer that has gone: it was handed a request, and it settled one.
    """

    consuming_since: float | None = None
    _delivered = False

    def forget(self) -> None:
        """Wait for a delivery and an acknowledgement from now on."""
        self._delivered = False
        self.consuming_since = None

    def seen(self, data: bytes, *, from_client: bool) -> None:
        if not from_client:
            self._delivered = self._delivered or BASIC_DELIVER in data
        elif self._delivered and self.consuming_since is None and BASIC_ACK in data:
            self.consuming_since = time.monotonic()

    def lost(self) -> None:
        self.forget()
