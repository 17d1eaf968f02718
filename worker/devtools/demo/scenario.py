"""The demo from start to end: servers, movies, rush, a killed worker, evidence, audit."""

from __future__ import annotations

import asyncio
import itertools
import json
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.live import Live

from contracts import topology
from worker.broker.messages import Message
from worker.broker.publisher import open_publisher
from worker.broker.subscription import Received, Subscription, consume, queue_depth, subscribe
from worker.commands.import_movies import import_documents
from worker.devtools.auditor import Document, Evidence, audit
from worker.devtools.demo.screen import View
from worker.devtools.demo.verdict import verdict
from worker.devtools.demo.worker_processes import WorkerPool
from worker.devtools.demo.workload import Sent, cinema, rush
from worker.devtools.servers import embedded_servers
from worker.errors import PromiseBroken
from worker.settings import Settings
from worker.store.scan import stored_documents

SEED: Final = 20_261_224
KILL_AT_SHARE: Final = 0.4
"""Of the requests, answered when the first worker is killed: in the middle of the rush."""
PUBLISH_CHUNK: Final = 500
QUIET_SECONDS: Final = 1
"""Without an event, once every request has its outcome: what is still to come are repetitions."""
STALLED_SECONDS: Final = 30
"""Without an event, while outcomes are missing. A killed worker may leave a transaction open, which
holds up the commits of the others for some seconds, so a short silence says nothing then."""
REFRESH_SECONDS: Final = 0.1
TICKS_PER_LINE: Final = 20
LONGEST_SECONDS: Final = 600
"""After which the demo says what is missing instead of waiting for it."""


async def run_demo(settings: Settings, *, requests: int, workers: int, keep: bool) -> None:
    """Run the whole demo; raises PromiseBroken if the audit finds a single violation."""
    console = Console()
    folder = Path(tempfile.mkdtemp(prefix="reservation-demo-"))
    try:
        with console.status("starting a real RabbitMQ and a real MongoDB …"):
            stack = AsyncExitStack()
            servers = await stack.enter_async_context(embedded_servers(folder / "servers"))
        async with stack:
            own_settings = settings.model_copy(
                update={
                    "amqp_url": servers.amqp_url,
                    "mongodb_uri": servers.mongodb_uri,
                    "log_format": "json",
                }
            )
            demo = Demo(own_settings, folder, console, requests, workers)
            evidence = await demo.run()
        findings = audit(evidence)
        console.print(verdict(evidence, findings, demo.request_count))
        if findings:
            raise PromiseBroken("the audit found what must not be; see the table")
    finally:
        if keep:
            console.print(f"kept in {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)


class Demo:
    """One rush on one cinema."""

    def __init__(
        self, settings: Settings, folder: Path, console: Console, requests: int, workers: int
    ) -> None:
        self._settings = settings
        self._folder = folder
        self._console = console
        self._workers = workers
        self._movies = cinema()
        self._sent = rush(self._movies, requests, SEED)
        self._events: list[Received] = []
        self._dead_letters: list[Received] = []
        self.request_count = len({sent.request_id for sent in self._sent} - {None})
        self._view = View(
            capacities={
                (movie["_id"], slot["id"]): slot["capacity"]
                for movie in self._movies
                for slot in movie["timeSlots"]
            },
            sent_count=len(self._sent),
            request_count=self.request_count,
        )

    async def run(self) -> Evidence:
        """Everything between the start of the servers and the audit."""
        await import_documents(self._settings, self._movies)
        before, _ = await self._stored()
        self._say(f"{len(self._movies)} movies imported")
        async with asyncio.TaskGroup() as tasks:
            pool = WorkerPool(self._settings, self._folder)
            self._view.workers = pool.processes
            try:
                for _ in range(self._workers):
                    await pool.start()
                async with self._watching(tasks):
                    await self._rush(pool, tasks)
            finally:
                await pool.stop()
        return await self._evidence(before)

    async def _rush(self, pool: WorkerPool, tasks: asyncio.TaskGroup) -> None:
        self._view.started = time.monotonic()
        drawing = tasks.create_task(self._draw())
        publishing = tasks.create_task(self._publish())
        await self._kill_one(pool)
        await publishing
        await self._until_quiet(pool)
        drawing.cancel()
        self._say(self._view.summary())

    async def _publish(self) -> None:
        queue = topology.REQUESTS
        async with open_publisher(
            self._settings.amqp_url, "publishing the requests of the demo", queue=queue
        ) as publisher:
            for start in range(0, len(self._sent), PUBLISH_CHUNK):
                chunk = self._sent[start : start + PUBLISH_CHUNK]
                messages = [_message(sent) for sent in chunk]
                await publisher.publish_all(messages, "requests", f"the queue {queue}")
                self._view.published += len(chunk)

    async def _kill_one(self, pool: WorkerPool) -> None:
        deadline = self._view.started + LONGEST_SECONDS
        while len(self._view.answered) < KILL_AT_SHARE * self._view.request_count:
            pool.check()
            if time.monotonic() > deadline:
                return  # The audit names what is missing.
            await asyncio.sleep(REFRESH_SECONDS)
        victim = pool.processes[0]
        await pool.kill(victim)
        self._say(f"worker {victim.number} was killed with SIGKILL, without a warning")
        replacement = await pool.start()
        self._say(f"worker {replacement.number} takes its place")

    async def _until_quiet(self, pool: WorkerPool) -> None:
        """Wait until every request has its outcome, or none has come for long, and all is quiet."""
        deadline = self._view.started + LONGEST_SECONDS
        while time.monotonic() < deadline:
            pool.check()
            is_complete = len(self._view.answered) == self._view.request_count
            patience_seconds = QUIET_SECONDS if is_complete else STALLED_SECONDS
            quiet = time.monotonic() - self._view.last_event > patience_seconds
            if quiet and not await queue_depth(self._settings.amqp_url, topology.REQUESTS):
                return
            await asyncio.sleep(REFRESH_SECONDS)

    @asynccontextmanager
    async def _watching(self, tasks: asyncio.TaskGroup) -> AsyncIterator[None]:
        """Subscribe to the events, independently of the workers, and consume the dead letters."""
        url = self._settings.amqp_url
        async with (
            subscribe(url, topology.EVENTS, "#") as arriving,
            consume(url, topology.DEAD_LETTERS) as returning,
        ):
            watchers = [
                tasks.create_task(self._note_events(arriving)),
                tasks.create_task(self._note_dead_letters(returning)),
            ]
            try:
                yield
            finally:
                for watcher in watchers:
                    watcher.cancel()

    async def _note_events(self, arriving: Subscription) -> None:
        while True:
            event = await arriving.get()
            self._events.append(event)
            self._view.note_event(json.loads(event.body))

    async def _note_dead_letters(self, returning: Subscription) -> None:
        while True:
            self._dead_letters.append(await returning.get())

    async def _draw(self) -> None:
        """A live picture on a terminal, a line now and then elsewhere."""
        with ExitStack() as stack:
            live = None
            if self._console.is_terminal:
                live = stack.enter_context(
                    Live(self._view, console=self._console, auto_refresh=False)
                )
            for tick in itertools.count():
                self._view.sample()
                if live:
                    live.refresh()
                elif tick % TICKS_PER_LINE == 0:
                    self._console.print(self._view.line(), soft_wrap=True)
                await asyncio.sleep(REFRESH_SECONDS)

    async def _evidence(self, before: Sequence[Document]) -> Evidence:
        after, ledger = await self._stored()
        return Evidence(
            sent=[sent.body for sent in self._sent],
            events=[event.body for event in self._events],
            dead_letters=[
                (str(dead_letter.headers.get(topology.DEAD_LETTER_ERROR)), dead_letter.body)
                for dead_letter in self._dead_letters
            ],
            ledger=ledger,
            before=before,
            after=after,
            left_in_queue=await queue_depth(self._settings.amqp_url, topology.REQUESTS),
        )

    async def _stored(self) -> tuple[Sequence[Document], Sequence[Document]]:
        """The movies and the ledger."""
        settings = self._settings
        return await stored_documents(settings.mongodb_uri, settings.mongodb_database)

    def _say(self, note: str) -> None:
        self._view.notes.append(note)
        if not self._console.is_terminal:
            self._console.print(note)


def _message(sent: Sent) -> Message:
    return Message(
        exchange=topology.REQUESTS,
        routing_key=topology.request_routing_key(sent.movie_id),
        body=sent.body,
        headers={},
        mandatory=True,
        content_type="application/json",
    )
