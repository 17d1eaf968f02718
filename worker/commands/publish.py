"""`publish`: publishes requests from a file, and waits for their outcomes.

Publishes each line as it is, valid or not: invalid requests are how the dead letters are tested.
Reads a file of any size in bounded memory; only the ids of awaited requests are kept. Knows what
any publisher and subscriber knows, which is the contract, and nothing of MongoDB or of the worker.
"""

from __future__ import annotations

import asyncio
import io
import os
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Final, Never

from pydantic import BaseModel, Field, ValidationError
from rich.console import Console
from rich.progress import Progress

from contracts import InvalidRequest, OutcomeEvent, ReservationRequest, UnreadableRequest, topology
from contracts.messages import MovieId, read_request
from worker.broker.client_failures import explain
from worker.broker.messages import Message
from worker.broker.publisher import Publisher, open_publisher
from worker.broker.subscription import MessageSource, Received, subscribe
from worker.commands.terminal import print_line
from worker.errors import BadInput, BrokerUnusable, OutcomesMissing, SessionLost
from worker.settings import Settings

STANDARD_INPUT: Final = "-"
CONTENT_TYPE: Final = "application/json"
READ_BYTES: Final = 256 * 1024
"""Published and confirmed before more is read: about 1,500 requests."""
LINE_BYTES_MAX: Final = 1024 * 1024
"""Far above the 64 KiB of a request, and below RabbitMQ's own limit (16 MiB by default in 4.x)."""
FAULTS_SHOWN_MAX: Final = 5

QUIET_SECONDS: Final = 60
"""Without an outcome of these requests; a running worker has one within a few seconds."""


class MovieReference(BaseModel):
    """The part of a request that its routing key is made from."""

    movie_id: MovieId = Field(alias="movieId")


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the file, and how a worker will read it."""

    number: int
    body: bytes
    request: ReservationRequest | InvalidRequest | UnreadableRequest

    @property
    def fault(self) -> str | None:
        """Why a worker will refuse it, or None if it will not."""
        if isinstance(self.request, InvalidRequest):
            return "; ".join(f"{error.field} {error.problem}" for error in self.request.errors)
        return self.request.detail if isinstance(self.request, UnreadableRequest) else None


def message_of(line: Line) -> Message:
    """The line as it is, routed by its movie if it names one."""
    try:
        routing_key = topology.request_routing_key(
            MovieReference.model_validate_json(line.body).movie_id
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
    """The outcomes of the requests that were published, each printed when it first arrives."""

    def __init__(self, source: MessageSource) -> None:
        self._source = source
        self._expected: set[str] = set()
        self._missing: set[str] = set()
        self._kinds: Counter[str] = Counter()
        self._reasons: Counter[str] = Counter()

    def expect(self, lines: Sequence[Line]) -> None:
        """Wait for these lines, too, except the unreadable ones, which get no event."""
        requests = [line.request for line in lines]
        ids = {r.request_id for r in requests if not isinstance(r, UnreadableRequest)}
        self._missing |= ids - self._expected
        self._expected |= ids

    async def track(self) -> Never:
        """Print outcomes as they arrive, until cancelled; raises WorkerError."""
        while True:
            self._record(await self._source.get())

    async def complete(self, quiet_seconds: float) -> None:
        """Print outcomes until none is missing; raises WorkerError or OutcomesMissing."""
        while missing_count := len(self._missing):
            try:
                # Only an outcome of these requests counts: those of others may never end.
                async with asyncio.timeout(quiet_seconds):
                    while len(self._missing) == missing_count:
                        self._record(await self._source.get())
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

    def _record(self, event: Received) -> None:
        try:
            outcome = OutcomeEvent.model_validate_json(event.body)
        except ValidationError:
            return  # Anyone may publish to the exchange.
        if outcome.request_id in self._missing:
            self._missing.remove(outcome.request_id)
            self._kinds[outcome.outcome] += 1
            self._reasons.update([outcome.reason] if outcome.reason else [])
            print_line(event.body.decode(), "the outcomes")


async def publish_requests(
    settings: Settings, file: str, *, wait: bool, quiet_seconds: float = QUIET_SECONDS
) -> None:
    """The command: publish each line of the file, and with ``wait`` print the outcomes.

    Raises BadInput if the file cannot be read line by line, BrokerUnusable if RabbitMQ does not
    accept the requests, OutcomesMissing if no outcome arrives for ``quiet_seconds``, and
    WorkerError if standard output is closed.
    """
    name = topology.REQUESTS
    with _open(file) as source:
        async with open_publisher(
            settings.amqp_url, "publishing requests", exchange=name, queue=name
        ) as publisher:
            if not wait:
                await _publish_file(source, publisher, None)
                return
            async with subscribe(settings.amqp_url, topology.EVENTS, "reservation.#") as received:
                outcomes = Outcomes(received)
                tracking = asyncio.create_task(outcomes.track())
                try:
                    await _publish_file(source, publisher, outcomes)
                finally:
                    tracking.cancel()
                await asyncio.wait({tracking})
                if not tracking.cancelled():
                    await tracking
                await _complete(outcomes, quiet_seconds, publisher.closing)
    print(outcomes, file=sys.stderr)


async def _publish_file(source: io.FileIO, publisher: Publisher, outcomes: Outcomes | None) -> None:
    begun = time.perf_counter()
    count = faulty_count = 0
    faults: list[str] = []
    stderr = Console(stderr=True)
    # Outcomes that are printed to a terminal show the progress by themselves.
    hidden = not stderr.is_terminal or (outcomes is not None and sys.stdout.isatty())
    with Progress(console=stderr, transient=True, redirect_stdout=False, disable=hidden) as bars:
        bar = bars.add_task("publishing", total=os.fstat(source.fileno()).st_size or None)
        try:
            async for chunk in chunks_of(source):
                if outcomes:
                    outcomes.expect(chunk)
                messages = [message_of(line) for line in chunk]
                await publisher.publish_all(messages, "requests", f"the queue {topology.REQUESTS}")
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


async def _complete(outcomes: Outcomes, quiet_seconds: float, lost: asyncio.Future[None]) -> None:
    """Wait for the missing outcomes, but no longer than there is a connection."""
    completing = asyncio.create_task(outcomes.complete(quiet_seconds))
    try:
        await asyncio.wait({completing, lost}, return_when=asyncio.FIRST_COMPLETED)
        if not completing.done():
            reason = None if lost.cancelled() else lost.exception()
            raise SessionLost(f"waiting for outcomes: {explain(reason)}")
        await completing
    finally:
        completing.cancel()


def _open(file: str) -> io.FileIO:
    """Open unbuffered, so that the lines of a slow producer can be read as they are written."""
    try:
        return io.FileIO(0, closefd=False) if file == STANDARD_INPUT else io.FileIO(file)
    except OSError as failure:
        raise BadInput(f"{file} cannot be read: {failure.strerror}") from failure


async def chunks_of(source: io.FileIO) -> AsyncIterator[list[Line]]:
    """The lines that are not blank, in chunks of what could be read at once; raises BadInput."""
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
    """Read what is available; empty at the end. Waits without a thread, so that Ctrl-C works."""
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    try:
        loop.add_reader(source.fileno(), readable.set)
        # uvloop makes it non-blocking, and with it every other user of the same terminal.
        os.set_blocking(source.fileno(), True)
    except (PermissionError, NotImplementedError):
        pass  # epoll refuses regular files, which need not be waited for.
    else:
        try:
            await readable.wait()
        finally:
            loop.remove_reader(source.fileno())
    try:
        return source.read(READ_BYTES)
    except OSError as failure:
        raise BadInput(f"{source.name} cannot be read: {failure.strerror}") from failure
