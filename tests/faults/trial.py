"""One fault under steady load: break, wait, repair, and see what the workers made of it."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from tests.acceptance.client import REQUESTS
from tests.faults.fault import Fault
from tests.faults.load import Load
from tests.faults.testbed import FaultTestbed, StillWaiting
from worker.devtools.auditor import Kind
from worker.devtools.servers.process import poll

CONSUMING_SECONDS_MAX: Final = 15
"""After the repair: the promise that is tested."""
PATIENCE_SECONDS: Final = 60
"""How long a broken promise is watched, to say how badly it is broken."""
ANSWER_SECONDS: Final = 60
"""For the last outcomes after the end of the load; more would be as good as lost."""
LISTEN_SECONDS: Final = 0.02

COLUMNS: Final = {
    Kind.NOT_RECORDED: "lost",
    Kind.NOT_ANNOUNCED: "lost",
    Kind.DEAD_LETTER_MISSING: "lost",
    Kind.DEAD_LETTER_WITHOUT_CAUSE: "lost",
    Kind.LEFT_IN_QUEUE: "lost",
    Kind.SEATS_DIFFER: "seats",
    Kind.OVERBOOKED: "overbooked",
}
"""The column of the matrix that counts a kind of finding; every other kind is contradictory."""

Step = Callable[[str], None]


@dataclass(frozen=True)
class Result:
    """What one trial came to: figures for the table, and what is wrong in words."""

    fault: Fault
    held_seconds: float
    silence_seconds: float
    requests: int
    sent_again: int
    outcomes: Counter[str]
    given_up: int
    duplicates: int
    first_outcome_seconds: float | None
    consuming_seconds: float | None
    lost: int
    contradictory: int
    seats_wrong: int
    overbooked: int
    problems: tuple[str, ...]

    @property
    def passed(self) -> bool:
        return not self.problems


@dataclass(frozen=True)
class Recovery:
    """How long after the repair it took; None for what did not come."""

    held_seconds: float
    silence_seconds: float
    first_outcome_seconds: float | None
    consuming_seconds: float | None
    problems: tuple[str, ...]


async def try_fault(
    testbed: FaultTestbed, fault: Fault, chance: random.Random, step: Step
) -> Result:
    """Let one fault happen; never raises for what the workers do wrong."""
    step("preparing")
    async with fault.arranged(testbed):
        load = await Load.at(testbed.cinema, testbed.publisher, chance)
        async with load.running():
            await testbed.all_consume(time.monotonic(), PATIENCE_SECONDS)
            recovery = await _break_and_repair(testbed, fault, load, chance, step)
            if fault.loses_requests:
                await load.send_again(load.unanswered())
        step("waiting for the last outcomes")
        problems = [*recovery.problems, *await _all_answered(testbed, load)]
        step("auditing")
        return await _audited(fault, load, recovery, problems)


async def _break_and_repair(
    testbed: FaultTestbed, fault: Fault, load: Load, chance: random.Random, step: Step
) -> Recovery:
    heard = testbed.heard()
    listening = asyncio.create_task(_longest_silence(testbed))
    step("breaking")
    async with fault.inject(testbed, chance):
        broken = time.monotonic()
        step(f"broken for {fault.seconds:g} s")
        await asyncio.sleep(fault.seconds)
        held_seconds = time.monotonic() - broken
        step("repairing")
    step("waiting for the workers")
    first, consuming, problems = await _until_recovered(testbed, load)
    listening.cancel()
    silence_seconds = await listening
    if fault.mark and not any(fault.mark in line for line in testbed.said(heard)):
        problems.append(f"no worker said {fault.mark!r}: the fault did not happen")
    if silence_seconds < fault.silence_seconds:
        problems.append(f"no more than {silence_seconds:.1f} s of silence: it did not happen")
    return Recovery(held_seconds, silence_seconds, first, consuming, tuple(problems))


async def _until_recovered(
    testbed: FaultTestbed, load: Load
) -> tuple[float | None, float | None, list[str]]:
    """Seconds until the first outcome, and until all consume; and what is wrong with that."""
    repaired = time.monotonic()
    problems = []
    first: float | None = None
    consuming: float | None = None
    consumption = asyncio.create_task(testbed.all_consume(repaired, PATIENCE_SECONDS))
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            first = await load.first_outcome(repaired) - repaired
    except TimeoutError:
        problems.append(f"no outcome within {PATIENCE_SECONDS} s of the repair")
    try:
        consuming = await consumption
    except StillWaiting as failure:
        problems.append(str(failure))
    if consuming is not None and consuming > CONSUMING_SECONDS_MAX:
        problems.append(f"consuming again only after {consuming:.1f} s")
    return first, consuming, problems


async def _longest_silence(testbed: FaultTestbed) -> float:
    """The longest time, until this is cancelled, in which no request got its first outcome."""
    events = testbed.cinema.client.events
    longest_seconds = 0.0
    known, since = len(events), time.monotonic()
    try:
        while True:
            await asyncio.sleep(LISTEN_SECONDS)
            now = time.monotonic()
            longest_seconds = max(longest_seconds, now - since)
            if len(events) != known:
                known, since = len(events), now
    except asyncio.CancelledError:
        return longest_seconds


async def _all_answered(testbed: FaultTestbed, load: Load) -> list[str]:
    """Wait until every request has its answer and the queue is empty; what is missing, in words."""
    left = 0

    async def answered() -> bool:
        return not load.unanswered()

    async def emptied() -> bool:
        nonlocal left
        left = await testbed.cinema.client.depth(REQUESTS)
        return left == 0

    try:
        await poll(answered, ANSWER_SECONDS)
        await poll(emptied, ANSWER_SECONDS)
    except TimeoutError:
        missing = load.unanswered()
        return [f"unanswered: {missing[:3]}"] if missing else [f"{left} are left in the queue"]
    return []


async def _audited(fault: Fault, load: Load, recovery: Recovery, problems: Iterable[str]) -> Result:
    given_up = {
        name
        for name, dead_letter in load.received_dead_letters
        if dead_letter.error in (None, "undeliverable")
    }
    findings = await load.findings(excused=given_up if fault.may_give_up else ())
    kinds = Counter(COLUMNS.get(finding.kind, "contradictory") for finding in findings)
    return Result(
        fault=fault,
        held_seconds=recovery.held_seconds,
        silence_seconds=recovery.silence_seconds,
        requests=len(load.sent),
        sent_again=load.sent_again,
        outcomes=load.outcomes,
        given_up=len(given_up),
        duplicates=load.duplicates,
        first_outcome_seconds=recovery.first_outcome_seconds,
        consuming_seconds=recovery.consuming_seconds,
        lost=kinds["lost"],
        contradictory=kinds["contradictory"],
        seats_wrong=kinds["seats"],
        overbooked=kinds["overbooked"],
        problems=(*problems, *(f"{finding.kind}: {finding.what}" for finding in findings)),
    )
