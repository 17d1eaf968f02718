"""`replay`: the same events are published once more, and only those that were selected."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from tests.acceptance.cinema import Cinema, request_for, slots
from tests.acceptance.client import EVENTS
from tests.unit.values import NOW, SECOND
from worker.commands import replay
from worker.commands.replay import replay_outcomes
from worker.errors import BadInput, BrokerUnusable, NotRecorded
from worker.settings import Settings
from worker.store import ledger as stored_ledger
from worker.store.ledger import Selection

Shown = pytest.CaptureFixture[str]


@pytest.fixture
def settings(cinema: Cinema) -> Settings:
    return Settings(
        amqp_url=cinema.amqp_url,
        mongodb_uri=cinema.mongodb_uri,
        mongodb_database=cinema.database.name,
    )


@pytest.fixture
async def requests(cinema: Cinema) -> list[dict[str, Any]]:
    """Requests with every kind of outcome, each of which has had its event."""
    await cinema.start_worker()
    heat, alien = await cinema.show(*slots(3), movie_id="heat"), await cinema.show(*slots(9))
    sent = [request_for(heat, 2), request_for(heat, 2), request_for(alien, 1)]
    sent += [request_for("nowhere"), request_for(heat, slot=9), request_for(heat, 0)]
    sent += [request_for("a b"), {**request_for(heat), "expiresAt": "2020-01-01T00:00:00Z"}]
    await cinema.client.publish_all(sent)
    await cinema.client.outcomes([request["requestId"] for request in sent])
    return sent


async def replayed(cinema: Cinema, shown: Shown) -> int:
    """Wait until as many events have arrived as the command says it has published."""
    words = shown.readouterr().out.split()
    assert words[0] == "published", words
    count = int(words[1])
    events = cinema.client.events
    await cinema.client.until(
        lambda: sum(len(received) - 1 for received in events.values()) >= count
    )
    assert sum(len(received) - 1 for received in events.values()) == count
    return count


async def test_every_replayed_event_equals_the_first_one(
    cinema: Cinema,
    settings: Settings,
    requests: list[dict[str, Any]],
    capsys: Shown,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stored_ledger, "OUTCOMES_AT_ONCE", 3)
    await replay_outcomes(settings, Selection(), everything=True)
    assert await replayed(cinema, capsys) == len(requests)
    for request in requests:
        first, again = cinema.client.events[request["requestId"]]
        assert again == first


async def test_outcomes_are_selected_by_request_movie_and_time(
    cinema: Cinema, settings: Settings, requests: list[dict[str, Any]], capsys: Shown
) -> None:
    ids = [request["requestId"] for request in requests]
    moments: dict[str, datetime] = {ids[n]: NOW + n * SECOND for n in range(len(ids))}
    for request_id, moment in moments.items():
        change = {"$set": {"decidedAt": moment}}
        await cinema.database.reservations.update_one({"_id": request_id}, change)
    for selection, expected in (
        (Selection(request_ids=(ids[2], ids[0])), {ids[0], ids[2]}),
        (Selection(movie_id="nowhere"), {ids[3]}),
        (Selection(since=NOW + 2 * SECOND, until=NOW + 4 * SECOND), {ids[2], ids[3]}),
        (Selection(movie_id="heat", since=NOW + 4 * SECOND), {ids[4], ids[5], ids[7]}),
        (Selection(until=NOW), set[str]()),
    ):
        for events in cinema.client.events.values():
            del events[1:]
        await replay_outcomes(settings, selection, dry_run=True)
        assert capsys.readouterr().out == f"would publish {len(expected)} recorded outcomes\n"
        await replay_outcomes(settings, selection)
        if expected:
            await replayed(cinema, capsys)
        else:
            assert capsys.readouterr().out == "no recorded outcome is selected\n"
        found = {name for name, events in cinema.client.events.items() if len(events) > 1}
        assert found == expected


async def test_requests_without_an_outcome_are_named_at_the_end(
    cinema: Cinema, settings: Settings, requests: list[dict[str, Any]], capsys: Shown
) -> None:
    known = requests[0]["requestId"]
    with pytest.raises(NotRecorded, match=r"^1 of 2 requests have no recorded outcome: r-9$"):
        await replay_outcomes(settings, Selection(request_ids=(known, "r-9")))
    assert await replayed(cinema, capsys) == 1


async def test_many_events_are_published_only_with_consent(
    cinema: Cinema,
    settings: Settings,
    requests: list[dict[str, Any]],
    capsys: Shown,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(replay, "CONFIRM_ABOVE", 3)
    with pytest.raises(BadInput, match="Publish 8 recorded outcomes again") as refusal:
        await replay_outcomes(settings, Selection(), everything=True)
    assert refusal.value.exit_code == 2
    await replay_outcomes(settings, Selection(), everything=True, yes=True)
    assert await replayed(cinema, capsys) == len(requests)


@pytest.mark.parametrize(
    ("selection", "everything", "problem"),
    [
        (Selection(), False, "say which outcomes"),
        (Selection(movie_id="heat"), True, "say which outcomes"),
        (Selection(since=NOW, until=NOW), False, "there is nothing"),
    ],
)
async def test_a_selection_that_makes_no_sense_is_refused(
    selection: Selection, everything: bool, problem: str
) -> None:
    with pytest.raises(BadInput, match=problem):
        await replay_outcomes(Settings(), selection, everything=everything)


async def test_a_full_queue_ends_a_replay_with_what_was_published(
    cinema: Cinema,
    settings: Settings,
    requests: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert requests
    monkeypatch.setattr(stored_ledger, "OUTCOMES_AT_ONCE", 2)
    full = await cinema.client.channel.declare_queue(
        "test.full", exclusive=True, arguments={"x-max-length": 3, "x-overflow": "reject-publish"}
    )
    await full.bind(EVENTS, "reservation.#")
    with pytest.raises(BrokerUnusable, match=r"only 1 of the next 2 events.*; 2 outcomes were"):
        await replay_outcomes(settings, Selection(), everything=True)


async def test_an_entry_that_no_worker_wrote_is_skipped_and_reported(
    cinema: Cinema, settings: Settings, requests: list[dict[str, Any]], capsys: Shown
) -> None:
    assert requests
    await cinema.database.reservations.insert_one({"_id": "r-9", "outcome": "lost"})
    await replay_outcomes(settings, Selection(), everything=True)
    assert "; left out 1 that are not as a worker writes them" in capsys.readouterr().out
