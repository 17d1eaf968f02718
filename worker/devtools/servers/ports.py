"""TCP ports at 127.0.0.1, the only address that embedded servers listen on.

Chooses free ones, and finds out whether one is taken. Refuses to know what listens there.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
from contextlib import suppress
from typing import Final

from worker.errors import EmbeddedServerError

LOOPBACK: Final = "127.0.0.1"

PORT_MIN: Final = 20_000
PORT_MAX: Final = 32_767
"""Below the range from which kernels take the ports of outgoing connections (Linux from 32768,
macOS from 49152). Inside it, a client that keeps dialling a stopped server can be given that very
port, connect to itself, and keep the server from coming back."""


def free_ports(count: int) -> list[int]:
    """Choose different TCP ports that nothing listens on at 127.0.0.1.

    Nothing keeps them free afterwards; ``require_free`` checks that where it matters.
    """
    ports: set[int] = set()
    while len(ports) < count:
        port = PORT_MIN + secrets.randbelow(PORT_MAX - PORT_MIN + 1)
        with suppress(OSError):
            _bind(port)
            ports.add(port)
    return sorted(ports)


def require_free(port: int, name: str) -> None:
    """Raises EmbeddedServerError if ``port`` is taken, which a server reports far less clearly."""
    try:
        _bind(port)
    except OSError as error:
        raise EmbeddedServerError(
            f"{name} cannot listen on {LOOPBACK}:{port}: {error.strerror}"
        ) from error


def _bind(port: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        # As the servers do it: connections that have just ended do not make a port taken.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((LOOPBACK, port))


async def accepts_connections(port: int) -> bool:
    """Whether something listens on ``port`` at 127.0.0.1."""
    try:
        _, writer = await asyncio.open_connection(LOOPBACK, port)
    except OSError:
        return False
    writer.close()
    return True
