"""`dead-letters redrive`: sends dead letters back as they were, or publishes the outcome they have.

A dead letter leaves the queue only when the broker has confirmed what takes its place. A process
that dies in between leaves both, which does no harm: the request is told by its id, the event by
its.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from contracts import OutcomeEvent, UnreadableRequest, topology
from worker.broker.dead_letters import DeadLetter, DeadLetterQueue, open_dead_letters
from worker.broker.messages import Message
from worker.broker.replies import Replies
from worker.broker.reply_address import reply_address
from worker.commands.dead_letters.selection import (
    ReadDeadLetter,
    Selection,
    Survey,
    read_through,
    survey,
)
from worker.commands.dead_letters.show import counts_table, tables
from worker.commands.prompt import require_consent
from worker.errors import BrokerUnusable
from worker.rules.decision import Reused, repeated
from worker.service.announcement import outcome_events
from worker.settings import Settings
from worker.store.ledger import Ledger, open_ledger

NO_HEADERS: Final[Mapping[str, str]] = {}


@dataclass(frozen=True, slots=True)
class SendBack:
    """The request goes to the request queue once more."""


@dataclass(frozen=True, slots=True)
class Leave:
    """The dead letter stays: a worker would only make the same dead letter again."""


Plan = SendBack | OutcomeEvent | Leave
"""What is to become of a dead letter; an outcome is published."""


@dataclass(slots=True)
class Redriven:
    """What became of the dead letters that were selected."""

    sent_back_count: int = 0
    published_count: int = 0
    left_count: int = 0
    refused_count: int = 0

    def note(self, plan: Plan, *, confirmed: bool) -> None:
        """Count a dead letter."""
        match plan:
            case Leave():
                self.left_count += 1
            case _ if not confirmed:
                self.refused_count += 1
            case SendBack():
                self.sent_back_count += 1
            case OutcomeEvent():
                self.published_count += 1

    @property
    def total(self) -> int:
        return self.sent_back_count + self.published_count + self.left_count + self.refused_count


def plan_for(dead_letter: ReadDeadLetter, recorded: OutcomeEvent | None) -> Plan:
    """What is to become of a dead letter whose request id has this outcome in the ledger, or
    none."""
    if isinstance(dead_letter.request, UnreadableRequest) or recorded is None:
        return SendBack()
    # The rule itself says whether the outcome is that of this request, or of another one that
    # had its id first.
    decision = repeated(dead_letter.request, recorded)
    return Leave() if isinstance(decision, Reused) else decision


def messages_for(dead_letter: DeadLetter, plan: Plan) -> list[Message]:
    """What takes the place of a dead letter, and after it a reply, if one was asked for."""
    match plan:
        case OutcomeEvent():
            return outcome_events(dead_letter.delivery, plan)
        case SendBack():
            return [request_in(dead_letter)]
        case Leave():
            return []


def request_in(dead_letter: DeadLetter) -> Message:
    """The request as it was, without what was written on the dead letter about it."""
    delivery = dead_letter.delivery
    return Message(
        exchange=topology.REQUESTS,
        routing_key=delivery.routing_key,
        body=delivery.body,
        headers=delivery.trace_context or NO_HEADERS,
        mandatory=True,
        content_type=delivery.content_type,
        content_encoding=delivery.content_encoding,
        correlation_id=delivery.correlation_id,
        reply_to=reply_address(delivery.reply_to),
    )


async def redrive_dead_letters(
    settings: Settings, selection: Selection, *, dry_run: bool = False, yes: bool = False
) -> None:
    """The command: count, ask, and redrive what is selected of the dead letters that are there now.

    Raises BadInput where there is nobody to ask, StoreUnusable, BrokerUnusable; what was not
    confirmed until then is still a dead letter.
    """
    async with open_ledger(settings.mongodb_uri, settings.mongodb_database) as ledger:
        most = None
        if not yes and not dry_run:
            found = await counted(settings, selection)
            most = found.counts.selected.total()
            if not most:
                print("no dead letter is selected; nothing was done", flush=True)
                return
            question = f"Redrive {most:,} of {found.counts.seen.total():,} dead letters?"
            if not await require_consent(question, given=False):
                print("nothing was done", flush=True)
                return
        async with open_dead_letters(settings.amqp_url) as queue:
            work = _Redriving(queue, ledger, Replies(settings.amqp_url), dry_run=dry_run, most=most)
            await work.run(selection)
    print(_summary(work.done, dry_run=dry_run), flush=True)
    if work.done.refused_count:
        raise BrokerUnusable(
            f"RabbitMQ takes no message for {work.done.refused_count:,} dead letters, which are "
            "still there: a queue is full"
        )


async def counted(settings: Settings, selection: Selection) -> Survey:
    """Look at all dead letters and print how many there are of each error, and how many are
    selected."""
    async with open_dead_letters(settings.amqp_url) as queue:
        found = await survey(queue, selection, 0)
    tables().print(counts_table(found.counts))
    return found


class _Redriving:
    """Carries the dead letters through, a page at a time."""

    def __init__(
        self,
        queue: DeadLetterQueue,
        ledger: Ledger,
        replies: Replies,
        *,
        dry_run: bool,
        most: int | None,
    ) -> None:
        self._queue = queue
        self._ledger = ledger
        self._replies = replies
        self._dry_run = dry_run
        self._most = most
        self.done = Redriven()

    async def run(self, selection: Selection) -> None:
        """Redrive what is selected, and no more dead letters than somebody agreed to."""
        try:
            async with aclosing(read_through(self._queue, "redriving")) as pages:
                async for page in pages:
                    room = None if self._most is None else self._most - self.done.total
                    await self._redrive([one for one in page if selection.includes(one)][:room])
        finally:
            await self._replies.close()

    async def _redrive(self, dead_letters: Sequence[ReadDeadLetter]) -> None:
        ids = {
            dead_letter.request_id
            for dead_letter in dead_letters
            if dead_letter.request_id is not None
        }
        recorded = await self._ledger.outcomes(ids)
        plans = [
            plan_for(dead_letter, recorded.get(dead_letter.request_id or ""))
            for dead_letter in dead_letters
        ]
        if self._dry_run:
            for plan in plans:
                self.done.note(plan, confirmed=True)
            return
        replacements = [messages_for(o.raw, p) for o, p in zip(dead_letters, plans, strict=True)]
        confirmed = iter(await self._queue.publish([some[0] for some in replacements if some]))
        for dead_letter, plan, some in zip(dead_letters, plans, replacements, strict=True):
            is_replaced = bool(some) and next(confirmed)
            self.done.note(plan, confirmed=is_replaced)
            if is_replaced:
                await self._queue.remove([dead_letter.raw])
                await self._replies.send(some[1:])


def _summary(done: Redriven, *, dry_run: bool) -> str:
    would = "would have " if dry_run else ""
    left = (
        f"; left {done.left_count:,} whose request id is taken by another request, so that they "
        "would only come back"
        if done.left_count
        else ""
    )
    return (
        f"{would}sent {done.sent_back_count:,} back to {topology.REQUESTS}, and "
        f"published the recorded outcomes of {done.published_count:,}{left}"
    )
