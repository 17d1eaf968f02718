"""The commands for operators before they touch a server: what they take, and whom they ask."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.unit.values import ask, confirmed, faulty, found_invalid
from worker.broker.dead_letters import DeadLetter
from worker.broker.messages import Delivery
from worker.broker.wire.decoding import Properties
from worker.cli import main
from worker.commands.dead_letters.redrive import Leave, SendBack, plan_for
from worker.commands.dead_letters.selection import ReadDeadLetter, Selection, read_dead_letter
from worker.commands.prompt import require_consent
from worker.commands.terminal import printable, shortened
from worker.errors import BadInput

Shown = pytest.CaptureFixture[str]


def letter(
    body: bytes = b"{}", key: str = "heat", error: str = "undeliverable", **headers: object
) -> ReadDeadLetter:
    delivery = Delivery(tag=1, body=body, routing_key=key)
    return read_dead_letter(
        DeadLetter(delivery, Properties(headers={"x-reservation-error": error, **headers}))
    )


BODY = ask().to_json()


@pytest.mark.parametrize(
    ("selection", "selected"),
    [
        (Selection(), True),
        (Selection(errors=["undeliverable", "other"]), True),
        (Selection(errors=["other"]), False),
        (Selection(movie_ids=["heat"], ids=["r1"]), True),
        (Selection(movie_ids=["alien"], ids=["r1"]), False),
        (Selection(ids=[letter(BODY).name]), True),
        (Selection(ids=["r2"]), False),
    ],
)
def test_a_letter_is_selected_by_all_that_is_given(selection: Selection, selected: bool) -> None:
    assert selection.includes(letter(BODY)) is selected


def test_a_letter_that_holds_no_request_has_the_movie_of_its_routing_key_and_a_name() -> None:
    found = letter(b"no JSON", key="alien")
    assert (found.request_id, found.movie_id, len(found.name)) == (None, "alien", 10)
    assert found.name != letter(b"no JSON", key="heat").name
    assert found.name == letter(b"no JSON", key="alien").name


def test_the_error_of_a_letter_from_the_broker_itself_is_the_brokers_reason() -> None:
    delivery = Delivery(tag=1, body=b"")
    reason = {"x-first-death-reason": "delivery_limit"}
    assert (
        read_dead_letter(DeadLetter(delivery, Properties(headers=reason))).error == "delivery_limit"
    )
    assert read_dead_letter(DeadLetter(delivery, Properties())).error == "unknown"


def test_what_becomes_of_a_letter_follows_from_the_ledger_as_it_does_in_a_worker() -> None:
    same, other = confirmed(ask()), confirmed(ask(people=3))
    assert plan_for(letter(BODY), None) == SendBack()
    assert plan_for(letter(BODY), same) == same
    assert plan_for(letter(BODY), other) == Leave()
    assert plan_for(letter(b"no JSON"), same) == SendBack()
    invalid = found_invalid(faulty())
    assert plan_for(letter(BODY), invalid) == Leave()


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
async def test_whoever_is_at_the_terminal_is_asked(
    at_a_terminal: Callable[[bytes], object], capsys: Shown, answer: bytes, agreed: bool
) -> None:
    at_a_terminal(answer)
    assert await require_consent("Really?", given=False) is agreed
    assert capsys.readouterr().err == "Really? [y/N] "


async def test_nobody_is_asked_who_has_said_yes_and_nobody_can_be_asked_without_a_terminal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("y"))
    assert await require_consent("Really?", given=True)
    with pytest.raises(BadInput, match=r"Really\? There is no terminal"):
        await require_consent("Really?", given=False)


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


def test_a_choice_of_letters_may_name_several_of_each(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ("--error", "a", "--error", "b", "--movie", "m", "--id", "r-1", "--dry-run")
    selection, named = called(
        monkeypatch,
        "worker.commands.dead_letters.redrive.redrive_dead_letters",
        *("dead-letters", "redrive", *arguments),
    )
    assert selection == Selection(["a", "b"], ["m"], ["r-1"])
    assert named == {"dry_run": True, "yes": False}


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
def test_arguments_that_cannot_be_meant_are_refused(arguments: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit) as refusal:
        main(arguments)
    assert refusal.value.code == 2


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
def test_what_would_play_tricks_with_a_terminal_is_shown_as_what_it_is(
    text: str, shown: str
) -> None:
    assert printable(text) == shown
    assert printable("a\n" + text, keep="\n").startswith("a\n")


def test_a_long_text_is_cut_to_the_characters_that_are_allowed() -> None:
    assert (shortened("abcd", 4), shortened("abcde", 4)) == ("abcd", "abc…")
