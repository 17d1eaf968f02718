"""Prints lines, with text from strangers made safe to show on a terminal.

What a publisher wrote may contain escape sequences that recolour a terminal, or worse, and
characters that reverse the direction of writing. They are shown as escapes.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from worker.errors import WorkerError


def printable(text: str, *, keep: str = "") -> str:
    """The text, with escapes for characters that do not print, except for those to ``keep``."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() or character in keep else _escaped(character)
        for character in text
    )


def print_line(text: str, what: str = "the lines") -> None:
    """Print a line on standard output; raises WorkerError if its reader is gone."""
    try:
        print(text, flush=True)
    except OSError as failure:
        # Otherwise Python flushes the line again at its exit, and fails with an exit code of its
        # own: https://docs.python.org/3/library/signal.html#note-on-sigpipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise WorkerError(f"{what} cannot be printed: {failure.strerror}") from failure


def shortened(text: str, characters_max: int) -> str:
    """The text, or its beginning and an ellipsis, in no more characters than this."""
    return text if len(text) <= characters_max else f"{text[: characters_max - 1]}…"


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


def listed(summary: str, lines: Sequence[str], lines_max: int) -> str:
    """The summary with its lines indented below it; beyond ``lines_max``, only their number."""
    hidden = len(lines) - lines_max
    more = [f"and {hidden} more"] if hidden > 0 else []
    return "\n  ".join([summary, *lines[:lines_max], *more])
