"""The life of a worker: a start, one session with the broker after another, and a stop.

Opens the store and a session, runs the pipeline in it, and opens the next session when either
server has gone away. Owns the backoff between sessions and the drain. Knows nothing about requests.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from contextlib import ExitStack
from typing import Final

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type

from worker.broker.session import Session
from worker.errors import (
    BrokerUnusable,
    DrainTimedOut,
    SessionLost,
    StoreUnusable,
    TopologyDiffers,
    causes,
)
from worker.redaction import without_password
from worker.service.backoff import backoff, seconds_after
from worker.service.pipeline import Pipeline
from worker.service.recording import Recorder
from worker.service.signals import end_of_input, stop_signals
from worker.settings import Settings
from worker.store.store import Store

log: Final = logging.getLogger(__name__)

RECONNECT_WAIT: Final = backoff(first_seconds=0.5, longest_seconds=5)
"""A worker is back well within 15 s of its server, and a fleet does not come all at once."""

STEADY_SECONDS: Final = 10
"""A session that lived for this long was not ended by what it began with."""

REPORT_SECONDS: Final = 60
"""Between two log lines that say what was answered."""


class Worker:
    """One process's share of the work: a store, and session after session with the broker."""

    def __init__(self, settings: Settings, store: Store, stop: asyncio.Event) -> None:
        self._settings = settings
        self._store = store
        self._stop = stop
        self._recorder = Recorder(store, is_stopping=stop.is_set)
        self._answered: Counter[str] = Counter()
        self._short_sessions = 0

    async def run(self) -> None:
        """Work until asked to stop.

        Raises BrokerUnusable or TopologyDiffers if the first session cannot be opened, and
        DrainTimedOut if the stop takes too long. A server that goes away later is waited for.
        """
        session: Session | None = await self._open_session(may_be_blocked=True)
        opened = time.monotonic()
        log.info("ready: consuming requests, %d to a batch", self._settings.batch_size)
        reporting = asyncio.create_task(self._report())
        try:
            while session is not None:
                await self._work(session)
                session = await self._next_session(time.monotonic() - opened)
                opened = time.monotonic()
        finally:
            reporting.cancel()
        log.info("stopped: %s", self._summary())

    async def _work(self, session: Session) -> None:
        """Run the pipeline until the stop, or until a server goes away."""
        pipeline = Pipeline(session.consumer, session, self._recorder, self._settings.batch_size)
        try:
            async with asyncio.TaskGroup() as tasks:
                watching = tasks.create_task(session.watch())
                stopping = tasks.create_task(self._drain_on_stop(session))
                await tasks.create_task(pipeline.run())
                stopping.cancel()
                watching.cancel()
            await session.consumer.hand_back()
        except* (SessionLost, StoreUnusable) as failures:
            await self._end(session, failures)
        finally:
            self._answered += pipeline.answered
            await session.close()

    async def _end(self, session: Session, failures: BaseExceptionGroup[BaseException]) -> None:
        """Without the store everything goes back; in a lost session nothing can be settled."""
        for failure in causes(failures):
            log.warning("the session ends, what is unsettled will be delivered again: %s", failure)
        if failures.split(SessionLost)[0] is None:
            try:
                await session.consumer.stop()
                await session.consumer.hand_back()
            except SessionLost as failure:
                log.warning("handing back: %s", failure)

    async def _drain_on_stop(self, session: Session) -> None:
        await self._stop.wait()
        log.info("stopping: finishing what is in flight")
        await session.consumer.stop()
        await asyncio.sleep(self._settings.drain_seconds)
        raise DrainTimedOut(
            f"the stop took longer than {self._settings.drain_seconds:g} s; what was in flight "
            "will be delivered again"
        )

    async def _next_session(self, lived_seconds: float) -> Session | None:
        """A new session as soon as both servers are there, or None at the stop.

        A session that lived for less than STEADY_SECONDS counts as a failed attempt: what ended it
        may well end the next one too.
        """
        self._short_sessions = 0 if lived_seconds > STEADY_SECONDS else self._short_sessions + 1
        opening = asyncio.create_task(self._reopen(self._short_sessions))
        stopping = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait({opening, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not self._stop.is_set():
                session = await opening
                log.info("back at work")
                return session
            if opening.done() and not opening.exception():
                await opening.result().close()
            return None
        finally:
            opening.cancel()
            stopping.cancel()

    async def _reopen(self, short_sessions: int) -> Session:
        if short_sessions:
            await asyncio.sleep(seconds_after(short_sessions, RECONNECT_WAIT))
        retrying = AsyncRetrying(
            # After a good start, a topology that differs is a mistake that somebody may undo.
            retry=retry_if_exception_type((BrokerUnusable, StoreUnusable, TopologyDiffers)),
            wait=RECONNECT_WAIT,
            before_sleep=_log_retry,
        )
        # A worker that began again under an alarm would fail the same request again and again, for
        # as long as the alarm lasts, until the broker gave up the request.
        session: Session = await retrying(self._open_session, may_be_blocked=False)
        return session

    async def _open_session(self, *, may_be_blocked: bool) -> Session:
        """Only once the store takes writes: else requests would be consumed just to be handed
        back."""
        await self._store.prepare()
        await self._store.require_writes()
        return await Session.open(
            self._settings.amqp_url,
            self._settings.prefetch_count,
            may_be_blocked=may_be_blocked,
        )

    async def _report(self) -> None:
        before = ""
        while True:
            await asyncio.sleep(REPORT_SECONDS)
            if (summary := self._summary()) != before:
                log.info("%s", summary)
                before = summary

    def _summary(self) -> str:
        answers = ", ".join(f"{count} {kind}" for kind, count in sorted(self._answered.items()))
        tally = self._recorder.tally
        return (
            f"{answers or 'nothing answered'}; {tally.commits} commits, {tally.conflicts} conflicts"
        )


async def run_worker(settings: Settings, *, until_input_ends: bool = False) -> None:
    """The service: runs until a signal, then drains; a second signal aborts.

    Raises StoreUnusable, BrokerUnusable or TopologyDiffers if it cannot start, and DrainTimedOut if
    the stop takes too long or is aborted. With ``until_input_ends`` the end of standard input is a
    signal as well, so that no worker outlives its supervisor.
    """
    stop = asyncio.Event()
    main = asyncio.current_task()

    def on_signal() -> None:
        if stop.is_set() and main is not None:
            main.cancel()
        stop.set()

    with ExitStack() as stack:
        stack.enter_context(stop_signals(on_signal))
        if until_input_ends:
            stack.enter_context(end_of_input(stop.set))  # Never the second signal: it comes once.
        try:
            await _run_worker(settings, stop)
        except asyncio.CancelledError:
            raise DrainTimedOut("stopped at once by a second signal") from None


async def _run_worker(settings: Settings, stop: asyncio.Event) -> None:
    store = await Store.open(settings.mongodb_uri, settings.mongodb_database)
    log.info(
        "MongoDB is %s, RabbitMQ is %s",
        without_password(settings.mongodb_uri),
        without_password(settings.amqp_url),
    )
    try:
        await Worker(settings, store, stop).run()
    finally:
        await store.close()


def _log_retry(state: RetryCallState) -> None:
    failure = state.outcome.exception() if state.outcome else None
    log.warning("trying again in %.1f s: %s", state.upcoming_sleep, failure)
