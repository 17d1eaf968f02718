"""Bytes as a sequence of choices, so that a fuzzer that only knows bytes can build any value.

The same bytes always build the same value; once they have run out, every choice is the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Choices:
    """Reads choices from the front of the bytes."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        """Whether there are bytes left."""
        return self._at < len(self._data)

    def number(self, most: int) -> int:
        """A number from 0 to ``most``."""
        taken = self.take((most.bit_length() + 7) // 8)
        return int.from_bytes(taken, "big") % (most + 1)

    def one_of(self, things: Sequence[T]) -> T:
        """One of these things."""
        return things[self.number(len(things) - 1)]

    def take(self, most: int) -> bytes:
        """That many bytes, or all that are left."""
        taken = self._data[self._at : self._at + most]
        self._at += most
        return taken

    def piece(self, most: int) -> bytes:
        """Up to ``most`` bytes; the length is a choice as well."""
        return self.take(self.number(most))

    def rest(self) -> bytes:
        """All bytes that are left."""
        return self.take(len(self._data))
