"""`publish`: a file of requests goes to a real RabbitMQ, and their outcomes are awaited."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import Any, Final

import pytest
from yarl import URL

from contracts import OutcomeEvent, read_request
from tests.acceptance.cinema import Cinema, request_for, slots
from tests.acceptance.client import DEADLINE_SECONDS, REQUESTS, Received
from tests.acceptance.processes import ROOT
from tests.unit.values import NOW
from worker.broker.subscription import Received as Event
from worker.commands import publish as publish_command
from worker.commands.publish import Line, Outcomes, chunks_of, publish_requests
from worker.errors import BadInput, BrokerUnusable, OutcomesMissing, SessionLost
from worker.settings import Settings, environment_of

Document = dict[str, Any]
Shown = pytest.CaptureFixture[str]

GARBAGE: Final = b"no JSON"


@pytest.fixture
def settings(cinema: Cinema) -> Settings:
    """Settings with the broker of this test."""
    return Settings(amqp_url=cinema.amqp_url)


def file_of(folder: Path, *lines: Document | bytes) -> str:
    file = folder / "requests.jsonl"
    file.write_bytes(b"\n".join(encoded(line) for line in lines))
    return str(file)


def encoded(line: Document | bytes) -> bytes:
    return line if isinstance(line, bytes) else json.dumps(line).encode()


async def test_each_line_is_published_as_it_is_and_routed_by_its_movie(
    cinema: Cinema, settings: Settings, tmp_path: Path, capsys: Shown
) -> None:
    good = encoded(request_for("heat")) + b"  "
    nameless = b'{"movieId": "alien", "numberOfPeople": 0}'
    faulty = encoded(request_for("jaws", people=0))
    lines = [good, b"", b" \t", GARBAGE, nameless + b"\r", faulty, b'{"movieId": "a b"}']
    await publish_requests(settings, file_of(tmp_path, *lines), wait=False)
    queue = await cinema.client.channel.get_queue(REQUESTS)
    found = [Received.of(await queue.get(no_ack=True)) for _ in range(5)]
    keys = ["heat", "invalid", "alien", "jaws", "invalid"]
    assert [message.routing_key for message in found] == keys
    assert [message.body for message in found] == [good, GARBAGE, nameless, faulty, lines[-1]]
    assert {message.properties["content_type"] for message in found} == {"application/json"}
    assert {message.properties["delivery_mode"] for message in found} == {2}
    assert capsys.readouterr().err.splitlines()[-1].startswith("published 5 requests in ")


async def test_lines_that_will_be_refused_are_counted_and_some_shown(
    settings: Settings, tmp_path: Path, capsys: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publish_command, "READ_BYTES", 2 * len(GARBAGE))
    faulty = request_for("heat", people=0)
    file = file_of(tmp_path, request_for("heat"), faulty, *[GARBAGE] * 8)
    await publish_requests(settings, file, wait=False)
    warning, *faults, _ = capsys.readouterr().err.splitlines()
    assert warning == "warning: a worker will refuse 9 of these requests, such as"
    assert [fault.partition(":")[0] for fault in faults] == [f"  line {n}" for n in range(2, 7)]
    assert "numberOfPeople must be an integer" in faults[0]


async def test_awaited_outcomes_are_printed_once_for_each_request(
    cinema: Cinema, settings: Settings, tmp_path: Path, capsys: Shown
) -> None:
    await cinema.start_worker()
    movie = await cinema.show(*slots(5))
    first, second, third = (request_for(movie, people) for people in (2, 3, 1))
    faulty = request_for(movie, 0)
    reused = {**first, "numberOfPeople": 4}
    lines = (first, GARBAGE, second, first, {"movieId": movie}, third, faulty, reused)
    await publish_requests(settings, file_of(tmp_path, *lines), wait=True)
    shown = capsys.readouterr()
    ids = [request["requestId"] for request in (first, second, third, faulty)]
    events = await cinema.client.outcomes(ids)
    assert shown.out.splitlines() == [events[request_id].body.decode() for request_id in ids]
    assert shown.err.splitlines()[-2].startswith("published 8 requests in ")
    assert shown.err.splitlines()[-1] == (
        "4 outcomes: 2 confirmed, 2 rejected (1 sold_out, 1 invalid_request)"
    )


def event(request_id: str) -> Event:
    outcome = OutcomeEvent(request_id=request_id, outcome="confirmed", decided_at=NOW)
    return Event(outcome.to_json(), {}, None)


def lines_of(*request_ids: str) -> list[Line]:
    requests = [encoded(request_for("heat", request_id=name)) for name in request_ids]
    return [Line(0, body, read_request(body)) for body in requests]


async def test_only_the_first_outcome_of_an_own_request_is_printed(capsys: Shown) -> None:
    received: asyncio.Queue[Event] = asyncio.Queue()
    outcomes = Outcomes(received)
    outcomes.expect(lines_of("a", "b", "a"))
    for each in (event("x"), Event(b"no JSON", {}, None), event("b"), event("b"), event("a")):
        received.put_nowait(each)
    await outcomes.complete(DEADLINE_SECONDS)
    outcomes.expect(lines_of("a"))
    await outcomes.complete(DEADLINE_SECONDS)
    shown = [json.loads(line)["requestId"] for line in capsys.readouterr().out.splitlines()]
    assert shown == ["b", "a"]
    assert str(outcomes) == "2 outcomes: 2 confirmed, 0 rejected"


async def test_outcomes_of_others_do_not_prolong_the_wait() -> None:
    received: asyncio.Queue[Event] = asyncio.Queue()
    outcomes = Outcomes(received)
    outcomes.expect(lines_of("a", "b"))
    received.put_nowait(event("a"))

    async def others() -> None:
        while True:
            received.put_nowait(event("x"))
            await asyncio.sleep(0)

    noise = asyncio.create_task(others())
    try:
        with pytest.raises(OutcomesMissing, match="1 of 2 requests have no outcome"):
            await asyncio.wait_for(outcomes.complete(0.3), DEADLINE_SECONDS)
    finally:
        noise.cancel()


async def test_without_a_worker_the_wait_ends_with_what_is_missing(
    settings: Settings, tmp_path: Path
) -> None:
    file = file_of(tmp_path, request_for("heat"), request_for("heat"))
    with pytest.raises(OutcomesMissing, match=r"2 of 2 .* a worker must run"):
        await publish_requests(settings, file, wait=True, quiet_seconds=0.05)


@pytest.mark.parametrize("missing", ["exchange", "queue"])
@pytest.mark.parametrize("wait", [True, False])
async def test_before_the_first_worker_publish_asks_to_start_one(
    cinema: Cinema, settings: Settings, tmp_path: Path, missing: str, wait: bool
) -> None:
    channel = cinema.client.channel
    await (channel.exchange_delete if missing == "exchange" else channel.queue_delete)(REQUESTS)
    with pytest.raises(BrokerUnusable, match="start a worker once"):
        await publish_requests(settings, file_of(tmp_path, request_for("heat")), wait=wait)


async def test_a_request_that_finds_no_queue_is_noticed(
    cinema: Cinema, settings: Settings, tmp_path: Path
) -> None:
    queue = await cinema.client.channel.get_queue(REQUESTS)
    await queue.unbind(REQUESTS, "#")
    with pytest.raises(SessionLost, match=r"found no queue.*; 0 requests were"):
        await publish_requests(settings, file_of(tmp_path, request_for("heat")), wait=False)


async def test_a_full_queue_is_noticed(cinema: Cinema, settings: Settings, tmp_path: Path) -> None:
    arguments: Document = {"x-max-length": 1, "x-overflow": "reject-publish"}
    small = await cinema.client.channel.declare_queue(exclusive=True, arguments=arguments)
    await small.bind(REQUESTS, "#")
    with pytest.raises(BrokerUnusable, match="takes only 1 of the next 3 requests"):
        await publish_requests(settings, file_of(tmp_path, *[GARBAGE] * 3, b""), wait=False)


@asynccontextmanager
async def wire_to(url: str) -> AsyncIterator[tuple[str, Callable[[], None]]]:
    """Another route to the same broker, and a function that cuts it."""
    broker = URL(url)
    ends: list[asyncio.StreamWriter] = []

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(2**16):
                writer.write(data)

    async def join(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(broker.host, broker.port)
        ends.extend([writer, far_writer])
        await asyncio.gather(carry(reader, far_writer), carry(far_reader, writer))

    def cut() -> None:
        for end in ends:
            end.transport.abort()

    async with await asyncio.start_server(join, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        yield str(broker.with_host("127.0.0.1").with_port(port)), cut


@pytest.mark.parametrize("wait", [False, True], ids=["publishing", "waiting for outcomes"])
async def test_a_broker_that_goes_away_is_noticed(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wait: bool
) -> None:
    said = "waiting for outcomes: " if wait else "publishing: .*; 1 requests were published before"
    requests = [request_for("heat")] * (1 if wait else 2)
    monkeypatch.setattr(publish_command, "READ_BYTES", len(encoded(requests[0])) + 1)
    async with wire_to(settings.amqp_url) as (url, cut):

        async def cut_after_each(source: FileIO) -> AsyncIterator[list[Line]]:
            async for chunk in chunks_of(source):
                yield chunk
                cut()

        monkeypatch.setattr(publish_command, "chunks_of", cut_after_each)
        there = settings.model_copy(update={"amqp_url": url})
        with pytest.raises(SessionLost, match=said) as raised:
            await publish_requests(there, file_of(tmp_path, *requests, b""), wait=wait)
    assert raised.value.exit_code == 3


async def test_the_file_is_opened_before_the_broker_is_asked(tmp_path: Path) -> None:
    nowhere = Settings(amqp_url="amqp://127.0.0.1:1/")
    with pytest.raises(BadInput, match="absent cannot be read: No such file"):
        await publish_requests(nowhere, str(tmp_path / "absent"), wait=False)
    with pytest.raises(BrokerUnusable, match="RabbitMQ at amqp://127"):
        await publish_requests(nowhere, file_of(tmp_path, GARBAGE), wait=False)


async def test_a_line_too_long_for_any_request_ends_the_publishing(
    settings: Settings, tmp_path: Path
) -> None:
    file = file_of(tmp_path, GARBAGE, b"x" * (2 * publish_command.LINE_BYTES_MAX), GARBAGE)
    with pytest.raises(BadInput, match=r"line 2 is longer than 1048576 .*; 1 requests"):
        await publish_requests(settings, file, wait=False)


@pytest.mark.parametrize("read_bytes", [1, 2, 3, 7, 1000])
async def test_lines_are_whole_and_numbered_however_they_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read_bytes: int
) -> None:
    monkeypatch.setattr(publish_command, "READ_BYTES", read_bytes)
    file = file_of(tmp_path, b"one", b"", b"three\r", b"", b"five", b"\xffsix")
    with FileIO(file) as source:
        lines = [line async for chunk in chunks_of(source) for line in chunk]
    expected = [(1, b"one"), (3, b"three"), (5, b"five"), (6, b"\xffsix")]
    assert [(line.number, line.body) for line in lines] == expected


async def command(settings: Settings, stdout: int) -> tuple[Process, asyncio.StreamWriter]:
    """The real command, which reads what is written to the stream."""
    program = (sys.executable, "-m", "worker", "publish", "--wait", "-")
    environment = environment_of(settings)
    process = await asyncio.create_subprocess_exec(
        *program, cwd=ROOT, env=environment, stdin=PIPE, stdout=stdout, stderr=PIPE
    )
    assert process.stdin is not None
    return process, process.stdin


@pytest.mark.parametrize(("interrupted", "exit_code"), [(False, 0), (True, 130)])
async def test_a_slow_producer_sees_each_outcome_at_once(
    cinema: Cinema, settings: Settings, interrupted: bool, exit_code: int
) -> None:
    await cinema.start_worker()
    movie = await cinema.show(*slots(5))
    process, stdin = await command(settings, PIPE)
    assert process.stdout is not None
    async with asyncio.timeout(DEADLINE_SECONDS):
        for request in (request_for(movie), request_for(movie)):
            stdin.write(encoded(request) + b"\n")
            outcome = json.loads(await process.stdout.readline())
            assert outcome["requestId"] == request["requestId"]
        if interrupted:
            process.send_signal(signal.SIGINT)
        else:
            stdin.close()
        assert await process.wait() == exit_code


async def test_the_command_reports_that_its_output_was_closed(
    cinema: Cinema, settings: Settings
) -> None:
    await cinema.start_worker()
    reader, writer = os.pipe()
    os.close(reader)
    process, stdin = await command(settings, writer)
    os.close(writer)
    stdin.write(encoded(request := request_for("heat")) + b"\n")
    await cinema.client.outcome(request["requestId"])
    _, said = await process.communicate(b"")
    assert process.returncode == 1
    assert said.endswith(b"\nreservation-worker: the outcomes cannot be printed: Broken pipe\n")
