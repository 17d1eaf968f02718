"""``dead-letters redrive``: sends dead letters back, or publishes the outcome they have already.

A dead letter leaves the queue only when the broker has confirmed what takes its place. A process
that dies in between leaves both, which does no harm: a repeated request is recognised by its id,
and so is a repeated event.
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
from worker.commands.dead_letters.selection import ReadDeadLetter, Selection, read_through
from worker.commands.dead_letters.show import print_counts
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
    """The dead letter stays: a worker would only turn the request into the same one again."""


Plan = SendBack | OutcomeEvent | Leave
"""What to do with a dead letter; an outcome is published."""


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
    """What to do with a dead letter, given the outcome that the ledger has for its request id."""
    if isinstance(dead_letter.request, UnreadableRequest) or recorded is None:
        return SendBack()
    # The rule says whether this outcome is that of the request, or of an earlier one with its id.
    decision = repeated(dead_letter.request, recorded)
    return Leave() if isinstance(decision, Reused) else decision


def messages_for(dead_letter: DeadLetter, plan: Plan) -> list[Message]:
    """What takes the place of a dead letter, followed by a reply if one was asked for."""
    match plan:
        case OutcomeEvent():
            return outcome_events(dead_letter.delivery, plan)
        case SendBack():
            return [request_in(dead_letter)]
        case Leave():
            return []


def request_in(dead_letter: DeadLetter) -> Message:
    """The request as it was, without the headers about the error."""
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

    Raises BadInput if there is no terminal to ask at, StoreUnusable, BrokerUnusable; what was not
    confirmed by then is still a dead letter.
    """
    async with open_ledger(settings.mongodb_uri, settings.mongodb_database) as ledger:
        agreed_count = None
        if not yes and not dry_run:
            counts = await print_counts(settings, selection)
            agreed_count = counts.selected.total()
            if not agreed_count:
                print("no dead letter is selected; nothing was done", flush=True)
                return
            question = f"Redrive {agreed_count:,} of {counts.seen.total():,} dead letters?"
            if not await require_consent(question, given=False):
                print("nothing was done", flush=True)
                return
        async with open_dead_letters(settings.amqp_url) as queue:
            replies = Replies(settings.amqp_url)
            redriving = _Redriving(queue, ledger, replies, dry_run, agreed_count)
            await redriving.run(selection)
    done = redriving.done
    print(_summary(done, dry_run=dry_run), flush=True)
    if done.refused_count:
        raise BrokerUnusable(
            f"RabbitMQ refused the messages for {done.refused_count:,} dead letters, which are "
            "still there: a queue is full"
        )


class _Redriving:
    """Redrives dead letters, a page at a time."""

    def __init__(
        self,
        queue: DeadLetterQueue,
        ledger: Ledger,
        replies: Replies,
        dry_run: bool,
        agreed_count: int | None,
    ) -> None:
        self._queue = queue
        self._ledger = ledger
        self._replies = replies
        self._dry_run = dry_run
        self._agreed_count = agreed_count
        self.done = Redriven()

    async def run(self, selection: Selection) -> None:
        """Redrive what is selected, and no more dead letters than were agreed to."""
        try:
            async with aclosing(read_through(self._queue, "redriving")) as pages:
                async for page in pages:
                    selected = [found for found in page if selection.includes(found)]
                    await self._redrive(selected[: self._remaining_count()])
        finally:
            await self._replies.close()

    def _remaining_count(self) -> int | None:
        return None if self._agreed_count is None else self._agreed_count - self.done.total

    async def _redrive(self, dead_letters: Sequence[ReadDeadLetter]) -> None:
        ids = {found.request_id for found in dead_letters if found.request_id is not None}
        recorded = await self._ledger.outcomes(ids)
        plans = [plan_for(found, recorded.get(found.request_id or "")) for found in dead_letters]
        if self._dry_run:
            for plan in plans:
                self.done.note(plan, confirmed=True)
        else:
            raw = (found.raw for found in dead_letters)
            await self._carry_out(list(zip(raw, plans, strict=True)))

    async def _carry_out(self, plans: Sequence[tuple[DeadLetter, Plan]]) -> None:
        messages_of = [messages_for(dead_letter, plan) for dead_letter, plan in plans]
        confirmed = iter(await self._queue.publish([m[0] for m in messages_of if m]))
        for (dead_letter, plan), messages in zip(plans, messages_of, strict=True):
            is_replaced = bool(messages) and next(confirmed)
            self.done.note(plan, confirmed=is_replaced)
            if is_replaced:
                await self._queue.remove([dead_letter])
                await self._replies.send(messages[1:])


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
