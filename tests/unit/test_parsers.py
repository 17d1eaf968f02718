"""The command line before it touches a server: what the commands take, and what they refuse."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from worker.cli import main
from worker.commands.dead_letters.selection import Selection
from worker.settings import Settings


def called(monkeypatch: pytest.MonkeyPatch, name: str, *arguments: str) -> tuple[Any, ...]:
    """What the function of a command is given for these arguments."""
    given: list[tuple[Any, ...]] = []

    async def record(_settings: object, *positional: object, **named: object) -> None:
        given.append((*positional, named))

    monkeypatch.setattr(name, record)
    monkeypatch.setattr("worker.cli.configure_logging", lambda *_: None)
    assert main(arguments) == 0
    return given[0]


def test_times_may_be_given_at_any_offset(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ("--since", "2026-11-22T18:00:00Z", "--until", "2026-11-22T20:00+01:00", "--yes")
    selection, named = called(
        monkeypatch, "worker.commands.replay.replay_outcomes", "replay", *arguments
    )
    assert selection.since == datetime(2026, 11, 22, 18, tzinfo=UTC)
    assert selection.until == datetime(2026, 11, 22, 19, tzinfo=UTC)
    assert named == {"everything": False, "dry_run": False, "yes": True}


def test_dead_letters_may_be_selected_by_several_values_of_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    arguments = ("--error", "a", "--error", "b", "--movie", "m", "--id", "r-1", "--dry-run")
    selection, named = called(
        monkeypatch,
        "worker.commands.dead_letters.redrive.redrive_dead_letters",
        *("dead-letters", "redrive", *arguments),
    )
    assert selection == Selection(("a", "b"), ("m",), ("r-1",))
    assert named == {"dry_run": True, "yes": False}


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ((), 2),
        (("--all", "--error", "a"), 2),
        (("--all",), 3),
        (("--error", "a"), 3),
    ],
    ids=str,
)
def test_a_drop_takes_either_a_selection_or_all(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    code: int,
) -> None:
    monkeypatch.setattr("worker.cli.configure_logging", lambda *_: None)
    nowhere = ("--amqp-url", "amqp://127.0.0.1:1/")
    assert main(["dead-letters", "drop", "--yes", *options, *nowhere]) == code
    assert ("say which dead letters" in capsys.readouterr().err) is (code == 2)


@pytest.mark.parametrize(
    "arguments",
    [
        ("replay", "--since", "2026-11-22"),
        ("replay", "--since", "yesterday"),
        ("audit", "--limit", "-1"),
        ("dead-letters",),
        ("dead-letters", "show"),
    ],
    ids=" ".join,
)
def test_arguments_without_a_meaning_are_refused(arguments: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit) as refusal:
        main(arguments)
    assert refusal.value.code == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "--batch-size", "0"],
        ["run", "--amqp-url", "nonsense"],
        ["run", "--no-such-option"],
        ["no-such-command"],
        [],
    ],
)
def test_bad_arguments_end_with_exit_code_2_and_a_reason(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code: object = main(arguments)
    except SystemExit as exit_:
        code = exit_.code
    shown = capsys.readouterr()
    assert code == 2
    assert shown.out == ""
    assert shown.err


@pytest.mark.parametrize("name", list(Settings.model_fields))
def test_the_help_shows_each_option_with_its_variable(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as exit_:
        main(["run", "--help"])
    assert exit_.value.code == 0
    shown = capsys.readouterr().out
    assert "--" + name.replace("_", "-") in shown
    assert f"[RESERVATION_{name.upper()}]" in shown
