"""What is read from a dead letter, which are selected, and what redriving one comes to."""

from __future__ import annotations

import pytest

from tests.unit.values import ask, confirmed, faulty, found_invalid
from worker.broker.dead_letters import DeadLetter
from worker.broker.messages import Delivery
from worker.broker.wire.decoding import Properties
from worker.commands.dead_letters.redrive import Leave, SendBack, plan_for
from worker.commands.dead_letters.selection import ReadDeadLetter, Selection, read_dead_letter


def dead_letter(
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
        (Selection(ids=[dead_letter(BODY).name]), True),
        (Selection(ids=["r2"]), False),
    ],
)
def test_a_dead_letter_is_selected_if_it_matches_all_given(
    selection: Selection, selected: bool
) -> None:
    assert selection.includes(dead_letter(BODY)) is selected


def test_a_dead_letter_without_a_request_has_a_movie_and_a_name() -> None:
    found = dead_letter(b"no JSON", key="alien")
    assert (found.request_id, found.movie_id, len(found.name)) == (None, "alien", 10)
    assert found.name != dead_letter(b"no JSON", key="heat").name
    assert found.name == dead_letter(b"no JSON", key="alien").name


def test_a_dead_letter_of_the_broker_has_its_reason_as_error() -> None:
    delivery = Delivery(tag=1, body=b"")
    reason = {"x-first-death-reason": "delivery_limit"}
    assert (
        read_dead_letter(DeadLetter(delivery, Properties(headers=reason))).error == "delivery_limit"
    )
    assert read_dead_letter(DeadLetter(delivery, Properties())).error == "unknown"


def test_the_ledger_decides_what_redriving_a_dead_letter_does() -> None:
    same, other = confirmed(ask()), confirmed(ask(people=3))
    assert plan_for(dead_letter(BODY), None) == SendBack()
    assert plan_for(dead_letter(BODY), same) == same
    assert plan_for(dead_letter(BODY), other) == Leave()
    assert plan_for(dead_letter(b"no JSON"), same) == SendBack()
    invalid = found_invalid(faulty())
    assert plan_for(dead_letter(BODY), invalid) == Leave()
