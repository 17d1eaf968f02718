"""Bytes as a row of choices, so that a fuzzer that knows only bytes can make anything of them.

The same bytes always make the same thing, and when they have run out every choice is the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Choices:
    """Takes what it needs from the front."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        """Whether there are bytes left."""
        return self._at < len(self._data)

    def number(self, most: int) -> int:
        """From 0 to ``most``."""
        taken = self.take((most.bit_length() + 7) // 8)
        return int.from_bytes(taken, "big") % (most + 1)

    def one_of(self, things: Sequence[T]) -> T:
        """One of them; a byte chooses."""
        return things[self.number(len(things) - 1)]

    def take(self, most: int) -> bytes:
        """So many bytes, or what is left."""
        taken = self._data[self._at : self._at + most]
        self._at += most
        return taken

    def piece(self, most: int) -> bytes:
        """Bytes of a length that is chosen, too."""
        return self.take(self.number(most))

    def rest(self) -> bytes:
        """All that is left."""
        return self.take(len(self._data))
