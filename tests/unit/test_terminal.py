"""Text from strangers as it is shown on a terminal."""

from __future__ import annotations

import pytest

from worker.commands.terminal import printable, shortened


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain é", "plain é"),
        ("\x1b[31m", "\\x1b[31m"),
        ("a\nb", "a\\nb"),
        ("\u202e", "\\u202e"),
        ("\ud800", "\\ud800"),
    ],
    ids=ascii,
)
def test_what_could_play_tricks_on_a_terminal_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert printable("a\n" + text, keep="\n").startswith("a\n")


def test_a_long_text_is_cut_to_the_characters_that_are_allowed() -> None:
    assert (shortened("abcd", 4), shortened("abcde", 4)) == ("abcd", "abc…")
