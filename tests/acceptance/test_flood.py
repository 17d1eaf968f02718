"""A flood of bad messages: a worker's memory stays flat, and good requests among them get through.

``FLOOD=100000 make test ARGS="-s tests/acceptance/test_flood.py"`` makes it as long as one likes,
and shows the figures.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import secrets
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import aio_pika
import pytest

from tests.acceptance.cinema import Cinema, request_for, slots
from tests.acceptance.client import REQUESTS, Received
from tests.acceptance.processes import WorkerProcess

BAD_MESSAGES: Final = int(os.environ.get("FLOOD", "5000"))
WARM_UP: Final = 2000
"""Messages before the memory is looked at for the first time: by then, whatever a worker keeps for
good is there, a full prefetch included."""
BAD_TO_ONE_GOOD: Final = 100
AT_ONCE: Final = 500

LAG_SECONDS_MAX: Final = 15
"""From a good request's publication to its event. About a second, most of it in this process; one
that waits for something to time out takes twice as long as this."""
GROWTH_MIB_MAX: Final = 12
"""Allocators breathe; a worker that kept 100 bytes of each of 100,000 messages would show more."""

Kind = tuple[str, bytes, dict[str, object]]


def bad_messages(movie: str, used: str) -> Iterator[Kind]:
    """All kinds in turn, without end: the error, the body, and the headers."""
    nested = b'{"requestId": "a", "x": ' + b"[" * 5000 + b"]" * 5000 + b"}"
    while True:
        yield "unreadable_request", secrets.token_bytes(40), {}
        yield "invalid_request", _body(request_for(movie, 0)), {"n": [1, {"deep": None}], "f": 0.5}
        yield "unreadable_request", b'{"requestId": "\\ud800"}', {"traceparent": "\0" * 3000}
        yield "request_id_reused", _body(request_for(movie, 2, request_id=used)), {}
        yield "unreadable_request", nested, {"traceparent": bytearray(b"\xff"), "tracestate": 5}
        yield "invalid_request", _body(request_for("é" * 50, True, -1)), {"x-delivery-count": 10**9}
        yield "unreadable_request", _body({"movieId": movie}), {}
        yield "unreadable_request", b"x" * 65_537 if secrets.randbelow(20) == 0 else b"{}", {}


def _body(request: dict[str, object]) -> bytes:
    return json.dumps(request).encode()


@dataclass
class Flood:
    """What was sent, and when what became of it came."""

    cinema: Cinema
    movie: str
    bad: Iterator[Kind]
    dead_letters: Counter[tuple[bytes, str]] = field(default_factory=Counter)
    sent_at: dict[str, float] = field(default_factory=dict)
    lags: dict[str, float] = field(default_factory=dict)

    async def send(self, number: int) -> None:
        """So many bad messages and the good ones among them, as fast as the broker takes them."""
        for start in range(0, number, AT_ONCE):
            await asyncio.gather(
                *(self._send_one(start + n) for n in range(min(AT_ONCE, number - start)))
            )

    async def _send_one(self, number: int) -> None:
        exchange = self.cinema.client.channel.default_exchange
        error, body, headers = next(self.bad)
        self.dead_letters[body, error] += 1
        message = aio_pika.Message(body, delivery_mode=2, headers=headers)  # type: ignore[arg-type]
        await exchange.publish(message, REQUESTS)
        if number % BAD_TO_ONE_GOOD == 0:
            good = request_for(self.movie)
            self.sent_at[good["requestId"]] = time.monotonic()
            await exchange.publish(aio_pika.Message(_body(good), delivery_mode=2), REQUESTS)

    def note(self, event: Received) -> None:
        """An event came, now."""
        request_id = event.content["requestId"]
        if request_id in self.sent_at:
            assert event.content["outcome"] == "confirmed"
            self.lags.setdefault(request_id, time.monotonic() - self.sent_at[request_id])

    async def answered(self) -> None:
        """Wait until everything sent so far is where it belongs."""
        client = self.cinema.client
        seconds = 30 + self.dead_letters.total() / 500
        await client.until(
            lambda: len(client.received_dead_letters) >= self.dead_letters.total(), seconds
        )
        await client.outcomes(self.sent_at, seconds=seconds)


def resident_mib(worker: WorkerProcess) -> float:
    status = Path(f"/proc/{worker.process.pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) / 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="tells no process's memory")
async def test_a_flood_of_bad_messages_holds_up_no_good_request(
    cinema: Cinema, monkeypatch: pytest.MonkeyPatch
) -> None:
    movie = await cinema.show(*slots(10**6))
    used = request_for(movie)
    worker = await cinema.start_worker()
    await cinema.client.publish(used)
    await cinema.client.outcome(used["requestId"])
    flood = Flood(cinema, movie, bad_messages(movie, used["requestId"]))
    on_event = Received.of

    def noted(message: aio_pika.abc.AbstractIncomingMessage) -> Received:
        received = on_event(message)
        if received.routing_key.startswith("reservation."):
            flood.note(received)
        return received

    monkeypatch.setattr(Received, "of", noted)
    await flood.send(WARM_UP)
    await flood.answered()
    before_mib, begun = resident_mib(worker), time.monotonic()
    await flood.send(BAD_MESSAGES)
    await flood.answered()
    seconds, after_mib = time.monotonic() - begun, resident_mib(worker)
    assert Counter(
        (dead_letter.body, str(dead_letter.error))
        for dead_letter in cinema.client.received_dead_letters
    ) == (flood.dead_letters)
    lags = sorted(flood.lags.values())
    print(
        f"{BAD_MESSAGES:,} bad messages in {seconds:.1f} s; {len(lags):,} good ones among all, "
        f"answered after {lags[len(lags) // 2] * 1000:.0f} ms (median), {lags[-1]:.2f} s (most); "
        f"memory {before_mib:.1f} MiB before, {after_mib:.1f} MiB after"
    )
    assert lags[-1] < LAG_SECONDS_MAX
    assert after_mib - before_mib < GROWTH_MIB_MAX
    assert "Traceback" not in worker.log
    assert "session ends" not in worker.log
