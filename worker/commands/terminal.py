"""Printing: text from strangers, made safe to look at on a terminal, and lines into a pipe.

What a publisher wrote may hold escape sequences that recolour a terminal, or worse, and characters
that turn the direction of writing round. They are shown as what they are.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from worker.errors import WorkerError


def printable(text: str, *, keep: str = "") -> str:
    """The text, with escapes for whatever does not print, but for the characters to ``keep``."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() or character in keep else _escaped(character)
        for character in text
    )


def print_line(text: str, what: str = "the lines") -> None:
    """Print a line on standard output; raises WorkerError when nobody reads it any more."""
    try:
        print(text, flush=True)
    except OSError as failure:
        # Else the end of the process tries to print it once more, and fails with a code of its
        # own: https://docs.python.org/3/library/signal.html#note-on-sigpipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise WorkerError(f"{what} cannot be printed: {failure.strerror}") from failure


def shortened(text: str, characters_max: int) -> str:
    """The text, or its beginning and an ellipsis, in no more characters than this."""
    return text if len(text) <= characters_max else f"{text[: characters_max - 1]}…"


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


def listed(summary: str, lines: Sequence[str], lines_max: int) -> str:
    """The summary and its lines, indented below it; of too many only how many more there are."""
    hidden = len(lines) - lines_max
    more = [f"and {hidden} more"] if hidden > 0 else []
    return "\n  ".join([summary, *lines[:lines_max], *more])
