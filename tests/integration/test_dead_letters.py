"""Looking at dead letters in a real RabbitMQ, and taking away only what was meant."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Final

import aio_pika
import pytest

from tests.acceptance.client import DEAD_LETTERS, Client, Received
from tests.conftest import Servers
from worker.broker import dead_letters as broker_letters
from worker.broker.wire.decoding import Arrival
from worker.commands.dead_letters.drop import drop_dead_letters
from worker.commands.dead_letters.selection import Selection
from worker.commands.dead_letters.show import list_dead_letters, show_dead_letter
from worker.errors import BadInput, BrokerUnusable, NoSuchDeadLetter
from worker.settings import Settings

Shown = pytest.CaptureFixture[str]

REUSED: Final = {"requestId": "r-1", "movieId": "heat", "timeSlotId": 1, "numberOfPeople": 2}


@pytest.fixture
def settings(servers: Servers) -> Settings:
    return Settings(amqp_url=servers.amqp_url)


@pytest.fixture
async def letters(client: Client) -> Client:
    """A client that leaves letters where they are."""
    await client.leave_letters()
    return client


async def post(
    client: Client,
    body: bytes | dict[str, Any],
    error: str = "undeliverable",
    detail: str = "why",
    *,
    key: str = "heat",
    **properties: Any,  # noqa: ANN401  # Whatever aio-pika's Message takes.
) -> None:
    exchange = await client.channel.get_exchange(DEAD_LETTERS)
    given = properties.pop("headers", {})
    headers = {"x-reservation-error": error, "x-reservation-error-detail": detail, **given}
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    message = aio_pika.Message(content, headers=headers, delivery_mode=2, **properties)
    await exchange.publish(message, key)


async def all_of(client: Client, number: int) -> list[Received]:
    """All letters, taken out of the queue, of which there are so many."""
    queue = await client.channel.get_queue(DEAD_LETTERS)
    found = [Received.of(await queue.get(timeout=10)) for _ in range(number)]
    assert await client.depth(DEAD_LETTERS) == 0
    return found


def bodies(received: list[Received]) -> list[bytes]:
    return [letter.body for letter in received]


async def test_a_list_counts_by_error_and_leaves_all_as_they_were(
    letters: Client, settings: Settings, capsys: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker_letters, "PAGE_SIZE", 3)
    for number in range(7):
        await post(letters, {**REUSED, "requestId": f"r-{number}"}, "request_id_reused")
    await post(letters, b"\x1b[31mno JSON", "unreadable_request", "\x1b]0;owned\x07", key="x\x1by")
    await list_dead_letters(settings, Selection(), limit=100)
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert "\\x1b]0;owned" in shown
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in shown.splitlines()]
    assert ["request_id_reused", "7", "7"] in rows
    assert ["all", "8", "8"] in rows
    names = [row[0] for row in rows if len(row) == 5 and row[1] == "request_id_reused"]
    assert len(set(names)) == 7
    found = await all_of(letters, 8)
    assert [json.loads(body)["requestId"] for body in bodies(found)[:7]] == [
        f"r-{number}" for number in range(7)
    ]
    assert found[7].body == b"\x1b[31mno JSON"


async def test_thousands_of_dead_letters_keep_their_order_at_each_look(
    letters: Client, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker_letters, "PAGE_SIZE", 20)
    monkeypatch.setattr(broker_letters, "KEPT_PER_CHANNEL", 900)
    bodies_sent = [str(number).encode() for number in range(2000)]
    exchange = await letters.channel.get_exchange(DEAD_LETTERS)
    for start in range(0, 2000, 500):
        some = [aio_pika.Message(body) for body in bodies_sent[start : start + 500]]
        await asyncio.gather(*(exchange.publish(message, "") for message in some))
    for _ in range(3):
        seen: list[bytes] = []
        async with broker_letters.open_dead_letters(settings.amqp_url) as queue:
            async for page in queue.pages():
                seen += [letter.delivery.body for letter in page]
        assert seen == bodies_sent


async def test_only_the_selected_are_listed_up_to_the_limit(
    letters: Client, settings: Settings, capsys: Shown
) -> None:
    for number in range(3):
        await post(letters, {**REUSED, "requestId": f"r-{number}"})
    await post(letters, {**REUSED, "movieId": "alien"}, key="alien")
    await post(letters, b"no JSON", "unreadable_request", key="alien")
    await list_dead_letters(
        settings, Selection(errors=["undeliverable"], movie_ids=["heat"]), limit=2
    )
    shown = capsys.readouterr().out
    assert ("r-0" in shown, "r-2" in shown, "alien" in shown) == (True, False, False)
    assert shown.endswith("and 1 more (see --limit)\n")
    await list_dead_letters(settings, Selection(movie_ids=["alien"]), limit=9)
    shown = capsys.readouterr().out
    assert (shown.count("alien"), "r-0" in shown) == (2, False)


async def test_looking_again_and_again_changes_nothing_and_loses_nothing(
    letters: Client, settings: Settings, capsys: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker_letters, "RENEWED_AFTER_RETURNS", 3)
    monkeypatch.setattr(broker_letters, "PAGE_SIZE", 2)
    returns: list[int] = []
    real = broker_letters._dead_letter

    def counted(arrival: Arrival) -> broker_letters.DeadLetter:
        letter = real(arrival)
        returns.append(letter.delivery.failures)
        return letter

    monkeypatch.setattr(broker_letters, "_dead_letter", counted)
    rich = {"traceparent": "00-1", "tracestate": "a=b"}
    plain = {"content_type": "application/json", "correlation_id": "c", "type": "t"}
    plain |= {"content_encoding": "identity", "reply_to": "answers", "message_id": "m"}
    ids = [f"r-{number}" for number in range(5)]
    for request_id in ids:
        await post(letters, {**REUSED, "requestId": request_id}, headers=rich, **plain)
    for _ in range(10):
        await list_dead_letters(settings, Selection(), limit=0)
    assert capsys.readouterr().out
    assert (max(returns), len(returns)) == (3, 50)
    found = await all_of(letters, 5)
    assert sorted(letter.content["requestId"] for letter in found) == ids
    for letter in found:
        assert letter.headers.items() >= {**rich, "x-reservation-error": "undeliverable"}.items()
        assert letter.routing_key == "heat"
        assert letter.properties.items() >= plain.items()


async def test_a_dead_letter_is_shown_in_full_by_its_name_or_request_id(
    letters: Client, settings: Settings, capsys: Shown
) -> None:
    await post(letters, b"\x07\xff no JSON", "unreadable_request")
    await post(
        letters, {**REUSED, "title": "Caf\u00e9 \u202e"}, correlation_id="c-1", headers={"n": [1]}
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
    letters: Client, settings: Settings, capsys: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker_letters, "PAGE_SIZE", 2)
    for number in range(8):
        error = "undeliverable" if number % 2 else "request_id_reused"
        await post(letters, str(number).encode(), error)
    selection = Selection(errors=["undeliverable"])
    await drop_dead_letters(settings, selection, dry_run=True)
    assert "nothing was dropped of 4 selected dead letters" in capsys.readouterr().out
    await drop_dead_letters(settings, selection, yes=True)
    assert capsys.readouterr().out.endswith("dropped 4 dead letters\n")
    assert bodies(await all_of(letters, 4)) == [b"0", b"2", b"4", b"6"]


async def test_without_a_terminal_a_drop_needs_yes(letters: Client, settings: Settings) -> None:
    await post(letters, b"1")
    with pytest.raises(BadInput, match="no terminal to ask at: say --yes") as refusal:
        await drop_dead_letters(settings, Selection(), everything=True)
    assert refusal.value.exit_code == 2
    with pytest.raises(BadInput, match="say which dead letters"):
        await drop_dead_letters(settings, Selection(), yes=True)
    assert bodies(await all_of(letters, 1)) == [b"1"]


async def test_what_arrives_before_the_answer_is_not_dropped(
    letters: Client, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    await post(letters, b"1")

    async def consent_late(_question: str, *, given: bool) -> bool:
        assert given
        await post(letters, b"2")
        return True

    monkeypatch.setattr("worker.commands.dead_letters.drop.require_consent", consent_late)
    await drop_dead_letters(settings, Selection(), everything=True, yes=True)
    assert len(await all_of(letters, 1)) == 1


async def test_no_command_looks_at_a_queue_that_has_a_consumer(
    client: Client, settings: Settings
) -> None:
    assert client
    with pytest.raises(BrokerUnusable, match="has 1 consumers, who take the dead letters away"):
        await list_dead_letters(settings, Selection(), limit=1)


async def test_dead_letters_that_go_away_meanwhile_end_the_look(
    letters: Client, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker_letters, "PAGE_SIZE", 2)
    monkeypatch.setattr(broker_letters, "RETURNED_SECONDS", 0)
    for number in range(5):
        await post(letters, str(number).encode())
    async with broker_letters.open_dead_letters(settings.amqp_url) as queue:
        pages = queue.pages()
        assert len(await anext(pages)) == 2
        await letters.take_letters()
        await letters.dead_letters(3)
        assert [page async for page in pages] == []
    await letters.dead_letters(5)
    assert bodies(letters.letters) == [b"2", b"3", b"4", b"0", b"1"]


async def test_a_look_that_is_interrupted_leaves_every_dead_letter(
    letters: Client, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker_letters, "PAGE_SIZE", 2)
    for number in range(5):
        await post(letters, str(number).encode())

    async def look() -> None:
        async with broker_letters.open_dead_letters(settings.amqp_url) as queue:
            async for page in queue.pages():
                await queue.remove(page[:1])
                if page[0].delivery.tag > 1:
                    raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await look()
    assert sorted(bodies(await all_of(letters, 3))) == [b"1", b"3", b"4"]


async def test_an_empty_queue_is_no_error_and_a_missing_one_is(
    letters: Client, settings: Settings, capsys: Shown
) -> None:
    await list_dead_letters(settings, Selection(), limit=1)
    assert "all" in capsys.readouterr().out
    await letters.channel.queue_delete(DEAD_LETTERS)
    with pytest.raises(BrokerUnusable, match="is not ready, start a worker once"):
        await list_dead_letters(settings, Selection(), limit=1)
