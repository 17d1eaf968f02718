"""TCP ports at 127.0.0.1, the only address that embedded servers listen on.

This module owns the choice of a port and the question whether it is taken. It refuses to know
what listens there.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
from contextlib import suppress
from typing import Final

from worker.errors import EmbeddedServerError

LOOPBACK: Final = "127.0.0.1"

# Ports below the range from which kernels give out ports for outgoing connections (Linux from
# 32768, macOS from 49152). Inside it, a client that keeps dialling a stopped server can be given
# that very port, connect to itself, and keep the server from coming back.
_LOWEST_PORT: Final = 20_000
_HIGHEST_PORT: Final = 32_767


def free_ports(count: int) -> list[int]:
    """Choose different TCP ports that nothing listens on at 127.0.0.1.

    Nothing keeps them free afterwards; `require_free` says so where it matters.
    """
    ports: set[int] = set()
    while len(ports) < count:
        port = _LOWEST_PORT + secrets.randbelow(_HIGHEST_PORT - _LOWEST_PORT + 1)
        with suppress(OSError):
            _bind(port)
            ports.add(port)
    return sorted(ports)


def require_free(port: int, name: str) -> None:
    """Raise `EmbeddedServerError` if `port` is taken, which a server says far less clearly."""
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
    """Tell whether something listens on `port` at 127.0.0.1."""
    try:
        _, writer = await asyncio.open_connection(LOOPBACK, port)
    except OSError:
        return False
    writer.close()
    return True
