"""Looking at dead letters in a real RabbitMQ, and dropping only what was meant."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import aio_pika
import pytest

from tests.acceptance.client import DEAD_LETTERS, DEADLINE_SECONDS, Client
from tests.acceptance.processes import ROOT
from tests.conftest import Servers
from tests.integration.dead_letters import all_of, bodies, post, run_dead_letters
from worker.broker import dead_letters as broker_dead_letters
from worker.broker.wire.decoding import DeliveredMessage
from worker.commands.dead_letters.selection import Selection
from worker.commands.dead_letters.show import list_dead_letters, show_dead_letter
from worker.errors import BrokerUnusable, NoSuchDeadLetter
from worker.settings import Settings

Shown = pytest.CaptureFixture[str]

REUSED: Final = {"requestId": "r-1", "movieId": "heat", "timeSlotId": 1, "numberOfPeople": 2}


@pytest.fixture
def settings(servers: Servers) -> Settings:
    return Settings(amqp_url=servers.amqp_url)


@pytest.fixture
async def observer(client: Client) -> Client:
    """A client that leaves dead letters where they are."""
    await client.leave_dead_letters()
    return client


async def test_a_list_counts_by_error_and_leaves_all_as_they_were(
    observer: Client, settings: Settings, capsys: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker_dead_letters, "PAGE_SIZE", 3)
    for number in range(7):
        await post(observer, {**REUSED, "requestId": f"r-{number}"}, "request_id_reused")
    await post(observer, b"\x1b[31mno JSON", "unreadable_request", "\x1b]0;owned\x07", key="x\x1by")
    await list_dead_letters(settings, Selection(), limit=100)
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert "\\x1b]0;owned" in shown
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in shown.splitlines()]
    assert ["request_id_reused", "7", "7"] in rows
    assert ["all", "8", "8"] in rows
    names = [row[0] for row in rows if len(row) == 5 and row[1] == "request_id_reused"]
    assert len(set(names)) == 7
    found = await all_of(observer, 8)
    assert [json.loads(body)["requestId"] for body in bodies(found)[:7]] == [
        f"r-{number}" for number in range(7)
    ]
    assert found[7].body == b"\x1b[31mno JSON"


async def test_thousands_of_dead_letters_keep_their_order_at_each_look(
    observer: Client, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker_dead_letters, "PAGE_SIZE", 20)
    monkeypatch.setattr(broker_dead_letters, "KEPT_PER_CHANNEL", 900)
    bodies_sent = [str(number).encode() for number in range(2000)]
    exchange = await observer.channel.get_exchange(DEAD_LETTERS)
    for start in range(0, 2000, 500):
        some = [aio_pika.Message(body) for body in bodies_sent[start : start + 500]]
        await asyncio.gather(*(exchange.publish(message, "") for message in some))
    for _ in range(3):
        seen: list[bytes] = []
        async with broker_dead_letters.open_dead_letters(settings.amqp_url) as queue:
            async for page in queue.pages():
                seen += [dead_letter.delivery.body for dead_letter in page]
        assert seen == bodies_sent


async def test_only_the_selected_are_listed_up_to_the_limit(
    observer: Client, settings: Settings, capsys: Shown
) -> None:
    for number in range(3):
        await post(observer, {**REUSED, "requestId": f"r-{number}"})
    await post(observer, {**REUSED, "movieId": "alien"}, key="alien")
    await post(observer, b"no JSON", "unreadable_request", key="alien")
    await list_dead_letters(
        settings, Selection(errors=["undeliverable"], movie_ids=["heat"]), limit=2
    )
    shown = capsys.readouterr().out
    assert ("r-0" in shown, "r-2" in shown, "alien" in shown) == (True, False, False)
    assert shown.endswith("and 1 more (see --limit)\n")
    await list_dead_letters(settings, Selection(movie_ids=["alien"]), limit=9)
    shown = capsys.readouterr().out
    assert (shown.count("alien"), "r-0" in shown) == (2, False)


async def test_looking_again_and_again_changes_nothing(
    observer: Client, settings: Settings, capsys: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker_dead_letters, "REPUBLISHED_AFTER_RETURNS", 3)
    monkeypatch.setattr(broker_dead_letters, "PAGE_SIZE", 2)
    returns: list[int] = []
    real = broker_dead_letters._dead_letter

    def counted(arrival: DeliveredMessage) -> broker_dead_letters.DeadLetter:
        dead_letter = real(arrival)
        returns.append(dead_letter.delivery.failures)
        return dead_letter

    monkeypatch.setattr(broker_dead_letters, "_dead_letter", counted)
    rich = {"traceparent": "00-1", "tracestate": "a=b"}
    plain = {"content_type": "application/json", "correlation_id": "c", "type": "t"}
    plain |= {"content_encoding": "identity", "reply_to": "answers", "message_id": "m"}
    ids = [f"r-{number}" for number in range(5)]
    for request_id in ids:
        await post(observer, {**REUSED, "requestId": request_id}, headers=rich, **plain)
    for _ in range(10):
        await list_dead_letters(settings, Selection(), limit=0)
    assert capsys.readouterr().out
    assert (max(returns), len(returns)) == (3, 50)
    found = await all_of(observer, 5)
    assert sorted(dead_letter.content["requestId"] for dead_letter in found) == ids
    for dead_letter in found:
        assert (
            dead_letter.headers.items() >= {**rich, "x-reservation-error": "undeliverable"}.items()
        )
        assert dead_letter.routing_key == "heat"
        assert dead_letter.properties.items() >= plain.items()


async def test_a_dead_letter_is_shown_by_its_name_or_request_id(
    observer: Client, settings: Settings, capsys: Shown
) -> None:
    await post(observer, b"\x07\xff no JSON", "unreadable_request")
    await post(
        observer, {**REUSED, "title": "Caf\u00e9 \u202e"}, correlation_id="c-1", headers={"n": [1]}
    )
    await show_dead_letter(settings, "r-1")
    shown = capsys.readouterr().out
    name = shown.split()[2].rstrip(":")
    assert shown.startswith(f"dead letter {name}: undeliverable\nwhy\n")
    assert '  "numberOfPeople": 2,\n' in shown
    assert '"title": "Caf\u00e9 \\u202e"' in shown
    assert "  correlation_id               c-1\n" in shown
    assert "  n                            [1]\n" in shown
    await show_dead_letter(settings, name)
    again = capsys.readouterr().out.splitlines()
    assert [line for line in again if "x-delivery-count" not in line] == shown.splitlines()
    await list_dead_letters(settings, Selection(errors=["unreadable_request"]), limit=1)
    other = next(
        line.split("│")[1].strip() for line in capsys.readouterr().out.splitlines() if "why" in line
    )
    await show_dead_letter(settings, other)
    assert capsys.readouterr().out.splitlines()[-1] == "\\x07\\xff no JSON"
    with pytest.raises(NoSuchDeadLetter, match="none of the 2 dead letters has the id r-9"):
        await show_dead_letter(settings, "r-9")


async def test_only_the_selected_are_dropped_and_the_others_keep_order(
    observer: Client, servers: Servers
) -> None:
    settings = {"AMQP_URL": servers.amqp_url}
    for number in range(8):
        error = "undeliverable" if number % 2 else "request_id_reused"
        await post(observer, str(number).encode(), error)
    drop = ("drop", "--error", "undeliverable")
    rehearsed = await run_dead_letters(settings, *drop, "--dry-run")
    assert (rehearsed.code, rehearsed.errors) == (0, "")
    assert "nothing was dropped of 4 selected dead letters" in rehearsed.output
    dropped = await run_dead_letters(settings, *drop, "--yes", page_size=2)
    assert (dropped.code, dropped.errors) == (0, "")
    assert dropped.output.endswith("dropped 4 dead letters\n")
    assert bodies(await all_of(observer, 4)) == [b"0", b"2", b"4", b"6"]


async def test_without_a_terminal_a_drop_needs_yes(observer: Client, servers: Servers) -> None:
    settings = {"AMQP_URL": servers.amqp_url}
    await post(observer, b"1")
    unasked = await run_dead_letters(settings, "drop", "--all")
    assert unasked.code == 2
    assert "no terminal to ask at: say --yes" in unasked.errors
    for unclear in ((), ("--all", "--error", "undeliverable")):
        refused = await run_dead_letters(settings, "drop", "--yes", *unclear)
        assert refused.code == 2
        assert "say which dead letters" in refused.errors
    assert bodies(await all_of(observer, 1)) == [b"1"]


async def test_what_arrives_before_the_answer_is_not_dropped(
    observer: Client, servers: Servers
) -> None:
    await post(observer, b"1")
    async with at_a_terminal(servers, "dead-letters", "drop", "--all") as (process, keyboard):
        assert process.stderr is not None
        question = await process.stderr.readuntil(b"[y/N] ")
        assert question.startswith(b"Drop 1 of 1 dead letters for good?")
        await post(observer, b"2")
        os.write(keyboard, b"y\n")
        async with asyncio.timeout(DEADLINE_SECONDS):
            output, _ = await process.communicate()
    assert (process.returncode, output.endswith(b"dropped 1 dead letters\n")) == (0, True)
    assert bodies(await all_of(observer, 1)) == [b"2"]


@asynccontextmanager
async def at_a_terminal(servers: Servers, *arguments: str) -> AsyncIterator[tuple[Process, int]]:
    """A command whose standard input is a terminal, and what types at that terminal."""
    keyboard, terminal = os.openpty()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "worker", *arguments),
        cwd=ROOT,
        env={**os.environ, "RESERVATION_AMQP_URL": servers.amqp_url},
        stdin=terminal,
        stdout=PIPE,
        stderr=PIPE,
    )
    try:
        yield process, keyboard
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        os.close(keyboard)
        os.close(terminal)


async def test_no_command_looks_at_a_queue_that_has_a_consumer(
    client: Client, settings: Settings
) -> None:
    assert client
    with pytest.raises(BrokerUnusable, match="has 1 consumers, who take the dead letters away"):
        await list_dead_letters(settings, Selection(), limit=1)


async def test_dead_letters_that_go_away_meanwhile_end_the_look(
    observer: Client, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker_dead_letters, "PAGE_SIZE", 2)
    monkeypatch.setattr(broker_dead_letters, "RETURNED_SECONDS", 0)
    for number in range(5):
        await post(observer, str(number).encode())
    async with broker_dead_letters.open_dead_letters(settings.amqp_url) as queue:
        pages = queue.pages()
        assert len(await anext(pages)) == 2
        await observer.consume_dead_letters()
        await observer.dead_letters(3)
        assert [page async for page in pages] == []
    await observer.dead_letters(5)
    assert bodies(observer.received_dead_letters) == [b"2", b"3", b"4", b"0", b"1"]


async def test_a_look_that_is_interrupted_leaves_every_dead_letter(
    observer: Client, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker_dead_letters, "PAGE_SIZE", 2)
    for number in range(5):
        await post(observer, str(number).encode())

    async def look() -> None:
        async with broker_dead_letters.open_dead_letters(settings.amqp_url) as queue:
            async for page in queue.pages():
                await queue.remove(page[:1])
                if page[0].delivery.tag > 1:
                    raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await look()
    assert sorted(bodies(await all_of(observer, 3))) == [b"1", b"3", b"4"]


async def test_an_empty_queue_is_no_error_and_a_missing_one_is(
    observer: Client, settings: Settings, capsys: Shown
) -> None:
    await list_dead_letters(settings, Selection(), limit=1)
    assert "all" in capsys.readouterr().out
    await observer.channel.queue_delete(DEAD_LETTERS)
    with pytest.raises(BrokerUnusable, match="is not ready, start a worker once"):
        await list_dead_letters(settings, Selection(), limit=1)
