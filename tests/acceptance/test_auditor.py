"""The auditor must find what is wrong: each test forges one piece of good evidence."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.acceptance.auditor import Evidence, audit

MOMENT = datetime(2026, 11, 22, 18, 0, tzinfo=UTC)


def request(name: str, people: int) -> dict[str, Any]:
    return {"requestId": name, "movieId": "heat", "timeSlotId": 1, "numberOfPeople": people}


def entry(name: str, people: int, version: int, left: int, **others: str) -> dict[str, Any]:
    asked = {key: value for key, value in request(name, people).items() if key != "requestId"}
    told = {"outcome": "confirmed", "movieVersion": version, "seatsAvailable": left, **others}
    return {"_id": name, **asked, **told, "decidedAt": MOMENT}


def event(recorded: dict[str, Any]) -> bytes:
    fields = {**recorded, "requestId": recorded["_id"], "decidedAt": "2026-11-22T18:00:00.000Z"}
    del fields["_id"]
    return json.dumps(fields).encode()


def evidence() -> Evidence:
    sold_out = {"outcome": "rejected", "reason": "sold_out"}
    ledger = [entry("a", 3, 1, 2), entry("b", 3, 1, 2, **sold_out), entry("c", 2, 2, 0)]
    return Evidence(
        sent=[request("a", 3), request("b", 3), request("c", 2)],
        events={recorded["_id"]: [event(recorded)] * 2 for recorded in ledger},
        letters=[],
        ledger={recorded["_id"]: recorded for recorded in ledger},
        before={"heat": {"timeSlots": [{"id": 1, "capacity": 10, "bookedCount": 5}]}},
        after={"heat": {"version": 2, "timeSlots": [{"id": 1, "capacity": 10, "bookedCount": 10}]}},
    )


def test_good_evidence_has_no_findings() -> None:
    assert audit(evidence()) == []


def forge(name: str, change: Callable[[Any], object]) -> Any:  # noqa: ANN401
    return pytest.param(change, id=name)


@pytest.mark.parametrize(
    "change",
    [
        forge("I1 overbooked", lambda e: e.after["heat"]["timeSlots"][0].update(capacity=9)),
        forge("I2 count", lambda e: e.after["heat"]["timeSlots"][0].update(bookedCount=9)),
        forge("I2 place", lambda e: e.ledger["c"].update(timeSlotId=2)),
        forge("I3 content", lambda e: e.ledger["b"].update(numberOfPeople=4)),
        forge("I3 never sent", lambda e: e.sent.pop()),
        forge("I3 events differ", lambda e: e.events["a"].append(e.events["b"][0])),
        forge("I3 event is another", lambda e: e.events.update(a=e.events["b"])),
        forge("I4 not recorded", lambda e: e.ledger.pop("b")),
        forge("I5 not announced", lambda e: e.events.pop("b")),
        forge("I5 dead letter", lambda e: e.letters.append(("undeliverable", b"{}"))),
        forge("I5 left", lambda e: setattr(e, "left_in_queue", 1)),
        forge("I6 version", lambda e: e.after["heat"].update(version=3)),
        forge("I6 reused version", lambda e: e.ledger["c"].update(movieVersion=1)),
        forge("rejected with room", lambda e: e.ledger["b"].update(seatsAvailable=3)),
        forge("seats that never were", lambda e: e.ledger["b"].update(seatsAvailable=1)),
        forge("seats left", lambda e: e.ledger["a"].update(seatsAvailable=3)),
    ],
)
def test_each_forgery_is_found(change: Callable[[Evidence], object]) -> None:
    forged = deepcopy(evidence())
    change(forged)
    assert audit(forged)
