"""Publishing requests from a file, and waiting for what becomes of them.

Publishes each line as it is, good or bad: bad ones are how one tests the dead letters. Reads a
file of any size in bounded memory; only the ids that are waited for are kept. Knows what any
publisher and subscriber knows, which is the contract, and nothing of MongoDB or of the worker.
"""

from __future__ import annotations

import asyncio
import io
import os
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, Never

from pydantic import BaseModel, Field, ValidationError
from rich.console import Console
from rich.progress import Progress

from contracts import InvalidRequest, OutcomeEvent, ReservationRequest, UnreadableRequest, topology
from contracts.messages import MovieId, read_request
from worker.broker.client_failures import explain, translated_failures
from worker.broker.connection import close_connection, connect
from worker.broker.messages import Message
from worker.broker.publisher import Publisher
from worker.broker.subscription import Incoming, Received, subscribe
from worker.broker.wire.channel import RPC_TIMEOUT_SECONDS, open_channel
from worker.commands.terminal import print_line
from worker.errors import BadInput, BrokerUnusable, OutcomesMissing, SessionLost
from worker.settings import Settings

STANDARD_INPUT: Final = "-"
CONTENT_TYPE: Final = "application/json"
READ_BYTES: Final = 256 * 1024
"""Published and confirmed before more is read: some 1,500 requests."""
LINE_BYTES_MAX: Final = 1024 * 1024
"""Far above the 64 KiB of a request, and below what RabbitMQ refuses (16 MiB by default in 4.x)."""
FAULTS_SHOWN_MAX: Final = 5

QUIET_SECONDS: Final = 60
"""Without an outcome of ours; a worker that is there has one within a few seconds."""


class Addressed(BaseModel):
    """All that a routing key takes."""

    movie_id: MovieId = Field(alias="movieId")


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the file, and what the worker will take it for."""

    number: int
    body: bytes
    request: ReservationRequest | InvalidRequest | UnreadableRequest

    @property
    def fault(self) -> str | None:
        """Why the worker will refuse it, if it will."""
        if isinstance(self.request, InvalidRequest):
            return "; ".join(f"{error.field} {error.problem}" for error in self.request.errors)
        return self.request.detail if isinstance(self.request, UnreadableRequest) else None


def message_of(line: Line) -> Message:
    """The line as it is, to be routed by its movie, if it names one."""
    try:
        routing_key = topology.request_routing_key(
            Addressed.model_validate_json(line.body).movie_id
        )
    except ValidationError:
        routing_key = "invalid"
    return Message(
        exchange=topology.REQUESTS,
        routing_key=routing_key,
        body=line.body,
        headers={},
        mandatory=True,
        content_type=CONTENT_TYPE,
    )


class Outcomes:
    """The outcomes of the requests that were published, each printed when it first comes."""

    def __init__(self, received: Incoming) -> None:
        self._received = received
        self._expected: set[str] = set()
        self._missing: set[str] = set()
        self._kinds: Counter[str] = Counter()
        self._reasons: Counter[str] = Counter()

    def expect(self, lines: Sequence[Line]) -> None:
        """Wait for these lines, too; there is no event for what cannot be read."""
        requests = [line.request for line in lines]
        ids = {r.request_id for r in requests if not isinstance(r, UnreadableRequest)}
        self._missing |= ids - self._expected
        self._expected |= ids

    async def track(self) -> Never:
        """Print outcomes as they come, until cancelled; raises WorkerError."""
        while True:
            self._take(await self._received.get())

    async def complete(self, quiet_seconds: float) -> None:
        """Print outcomes until none is missing; raises WorkerError or OutcomesMissing."""
        while missing_count := len(self._missing):
            try:
                # Only an outcome of ours counts: others may have theirs for ever.
                async with asyncio.timeout(quiet_seconds):
                    while len(self._missing) == missing_count:
                        self._take(await self._received.get())
            except TimeoutError:
                raise OutcomesMissing(
                    f"{missing_count} of {len(self._expected)} requests have no outcome, and none "
                    f"came for {quiet_seconds:g} s: a worker must run, and a requestId must not "
                    f"have been used with other content (see {topology.DEAD_LETTERS})"
                ) from None

    def __str__(self) -> str:
        reasons = ", ".join(f"{count} {name}" for name, count in self._reasons.most_common())
        return (
            f"{self._kinds.total()} outcomes: {self._kinds['confirmed']} confirmed, "
            f"{self._kinds['rejected']} rejected{f' ({reasons})' if reasons else ''}"
        )

    def _take(self, event: Received) -> None:
        try:
            outcome = OutcomeEvent.model_validate_json(event.body)
        except ValidationError:
            return  # Anybody may publish to the exchange.
        if outcome.request_id in self._missing:
            self._missing.remove(outcome.request_id)
            self._kinds[outcome.outcome] += 1
            self._reasons.update([outcome.reason] if outcome.reason else [])
            print_line(event.body.decode(), "the outcomes")


async def publish_requests(
    settings: Settings, file: str, *, wait: bool, quiet_seconds: float = QUIET_SECONDS
) -> None:
    """The command: publish each line of the file, and print the outcomes if they are waited for.

    Raises BadInput for what is no file of lines, BrokerUnusable when RabbitMQ does not take them,
    OutcomesMissing when none comes for ``quiet_seconds``, WorkerError when nobody reads them.
    """
    with _open(file) as source:
        async with _publishing(settings.amqp_url) as (publisher, lost):
            if not wait:
                await _publish_all(source, publisher, None)
                return
            async with subscribe(settings.amqp_url, topology.EVENTS, "reservation.#") as received:
                outcomes = Outcomes(received)
                following = asyncio.create_task(outcomes.track())
                try:
                    await _publish_all(source, publisher, outcomes)
                finally:
                    following.cancel()
                await asyncio.wait({following})
                if not following.cancelled():
                    await following
                await _complete(outcomes, quiet_seconds, lost)
    print(outcomes, file=sys.stderr)


async def _publish_all(source: io.FileIO, publisher: Publisher, outcomes: Outcomes | None) -> None:
    begun = time.perf_counter()
    count = faulty_count = 0
    faults: list[str] = []
    stderr = Console(stderr=True)
    # Outcomes on the same terminal show the progress by themselves.
    hidden = not stderr.is_terminal or (outcomes is not None and sys.stdout.isatty())
    with Progress(console=stderr, transient=True, redirect_stdout=False, disable=hidden) as bars:
        bar = bars.add_task("publishing", total=os.fstat(source.fileno()).st_size or None)
        try:
            async for chunk in chunks_of(source):
                if outcomes:
                    outcomes.expect(chunk)
                await _publish(chunk, publisher)
                count += len(chunk)
                faulty = [f"line {line.number}: {line.fault}" for line in chunk if line.fault]
                faulty_count += len(faulty)
                faults += faulty[: FAULTS_SHOWN_MAX - len(faults)]
                bars.advance(bar, sum(len(line.body) + 1 for line in chunk))
        except (BadInput, BrokerUnusable) as failure:
            raise type(failure)(f"{failure}; {count} requests were published before") from failure
    if faulty_count:
        refused = f"warning: a worker will refuse {faulty_count} of these requests, such as"
        print("\n  ".join([refused, *faults]), file=sys.stderr)
    print(f"published {count} requests in {time.perf_counter() - begun:.1f} s", file=sys.stderr)


async def _publish(chunk: Sequence[Line], publisher: Publisher) -> None:
    taken = await publisher.publish([message_of(line) for line in chunk])
    if not all(taken):
        raise BrokerUnusable(
            f"RabbitMQ takes only {taken.count(True)} of the next {len(chunk)} requests, because "
            f"the queue {topology.REQUESTS} is full"
        )


async def _complete(outcomes: Outcomes, quiet_seconds: float, lost: asyncio.Future[None]) -> None:
    """Wait for the rest, unless the connection goes: then nothing can come any more."""
    completing = asyncio.create_task(outcomes.complete(quiet_seconds))
    try:
        await asyncio.wait({completing, lost}, return_when=asyncio.FIRST_COMPLETED)
        if not completing.done():
            reason = None if lost.cancelled() else lost.exception()
            raise SessionLost(f"waiting for outcomes: {explain(reason)}")
        await completing
    finally:
        completing.cancel()


@asynccontextmanager
async def _publishing(url: str) -> AsyncIterator[tuple[Publisher, asyncio.Future[None]]]:
    """A publisher of requests, and what is done as soon as its channel is lost."""
    name = topology.REQUESTS
    connection = await connect(url, "publishing requests")
    try:
        with translated_failures(
            f"{name} is not ready, start a worker once to have it declared", BrokerUnusable
        ):
            channel = await open_channel(connection, confirms=True)
            await channel.exchange_declare(name, passive=True, timeout=RPC_TIMEOUT_SECONDS)
            await channel.queue_declare(name, passive=True, timeout=RPC_TIMEOUT_SECONDS)
        yield Publisher(channel), channel.closing
    finally:
        await close_connection(connection)


def _open(file: str) -> io.FileIO:
    """Unbuffered, so that what a slow producer has written so far can be had at once."""
    try:
        return io.FileIO(0, closefd=False) if file == STANDARD_INPUT else io.FileIO(file)
    except OSError as failure:
        raise BadInput(f"{file} cannot be read: {failure.strerror}") from failure


async def chunks_of(source: io.FileIO) -> AsyncIterator[list[Line]]:
    """The lines that are not blank, as many at once as have been read; raises BadInput."""
    number = 0
    rest = b""
    while data := await _read(source):
        *whole, rest = (rest + data).split(b"\n")
        if len(rest) > LINE_BYTES_MAX:
            raise BadInput(
                f"line {number + len(whole) + 1} is longer than {LINE_BYTES_MAX} bytes; "
                "the file takes one request on each line"
            )
        yield _lines(number, whole)
        number += len(whole)
    yield _lines(number, [rest])


def _lines(before: int, bodies: Sequence[bytes]) -> list[Line]:
    numbered = enumerate((body.removesuffix(b"\r") for body in bodies), before + 1)
    return [Line(n, body, read_request(body, CONTENT_TYPE)) for n, body in numbered if body.strip()]


async def _read(source: io.FileIO) -> bytes:
    """What there is, and nothing at the end; waits for it without a thread, which Ctrl-C needs."""
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    try:
        loop.add_reader(source.fileno(), readable.set)
        # uvloop makes it non-blocking, and with it whatever else writes to the same terminal.
        os.set_blocking(source.fileno(), True)
    except (PermissionError, NotImplementedError):
        pass  # What epoll does not take, such as a file, need not be waited for.
    else:
        try:
            await readable.wait()
        finally:
            loop.remove_reader(source.fileno())
    try:
        return source.read(READ_BYTES)
    except OSError as failure:
        raise BadInput(f"{source.name} cannot be read: {failure.strerror}") from failure
