"""Who is asked before something is done that cannot be undone, and which answer is a yes."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Iterator

import pytest

from worker.commands.prompt import require_consent
from worker.errors import BadInput

Shown = pytest.CaptureFixture[str]


@pytest.fixture
def at_a_terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[bytes], object]]:
    """Types an answer at a terminal that is the standard input."""
    master, slave = os.openpty()
    with os.fdopen(slave) as stdin, os.fdopen(master, "wb", buffering=0) as keyboard:
        monkeypatch.setattr(sys, "stdin", stdin)
        yield keyboard.write


@pytest.mark.parametrize(
    ("answer", "agreed"), [(b"y\n", True), (b"Yes\n", True), (b"\n", False), (b"no\n", False)]
)
async def test_a_person_at_the_terminal_is_asked(
    at_a_terminal: Callable[[bytes], object], capsys: Shown, answer: bytes, agreed: bool
) -> None:
    at_a_terminal(answer)
    assert await require_consent("Really?", given=False) is agreed
    assert capsys.readouterr().err == "Really? [y/N] "


async def test_nobody_is_asked_where_consent_is_given(
    monkeypatch: pytest.MonkeyPatch, capsys: Shown
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("n"))
    assert await require_consent("Really?", given=True)
    assert capsys.readouterr().err == ""


async def test_without_a_terminal_to_ask_at_nothing_is_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("y"))
    with pytest.raises(BadInput, match=r"Really\? There is no terminal"):
        await require_consent("Really?", given=False)
