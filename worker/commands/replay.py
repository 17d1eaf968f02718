"""`replay`: publishes recorded outcomes once more, for a subscriber that lost its data.

Each event equals the first one, with the same message id and the same content, because both are
made from the ledger alone. What the ledger does not hold is not restored: the correlation id is the
request id, there is no trace context, and no reply is sent.
"""

from __future__ import annotations

import time
from contextlib import aclosing
from typing import Final

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress

from contracts import OutcomeEvent, topology
from worker.broker.messages import Delivery, Message
from worker.broker.publisher import open_publisher
from worker.commands.prompt import require_consent
from worker.errors import BadInput, BrokerUnusable, NotRecorded
from worker.service.announcement import outcome_events
from worker.settings import Settings
from worker.store.ledger import Ledger, Selection, open_ledger

CONFIRM_ABOVE: Final = 1000
"""The most events that are sent to every subscriber again without asking for consent."""
MISSING_SHOWN_MAX: Final = 5

NO_DELIVERY: Final = Delivery(tag=0, body=b"")


def event_of(outcome: OutcomeEvent) -> Message:
    """The event for every subscriber; without a delivery there is no reply."""
    (event,) = outcome_events(NO_DELIVERY, outcome)
    return event


async def replay_outcomes(
    settings: Settings,
    selection: Selection,
    *,
    everything: bool = False,
    dry_run: bool = False,
    yes: bool = False,
) -> None:
    """The command: count what is selected, ask for consent if it is a lot, and publish it.

    Raises BadInput if nothing is selected, StoreUnusable, BrokerUnusable, and NotRecorded for
    request ids without an outcome, once all the others are published.
    """
    _require_selection(selection, everything=everything)
    async with open_ledger(settings.mongodb_uri, settings.mongodb_database) as ledger:
        count = await ledger.count(selection)
        if dry_run:
            print(f"would publish {count:,} recorded outcomes", flush=True)
        elif count > CONFIRM_ABOVE and not await require_consent(
            f"Publish {count:,} recorded outcomes again, to every subscriber?", given=yes
        ):
            print("nothing was published", flush=True)
        elif count:
            await _replay(settings, ledger, selection, count)
        else:
            print("no recorded outcome is selected", flush=True)
        missing = await _missing(ledger, selection)
    if missing:
        more = ", such as" if len(missing) > MISSING_SHOWN_MAX else ":"
        raise NotRecorded(
            f"{len(missing)} of {len(selection.request_ids)} requests have no recorded outcome"
            f"{more} {', '.join(missing[:MISSING_SHOWN_MAX])}"
        )


async def _replay(settings: Settings, ledger: Ledger, selection: Selection, count: int) -> None:
    begun = time.perf_counter()
    published_count = 0
    stderr = Console(stderr=True)
    columns = (*Progress.get_default_columns(), MofNCompleteColumn())
    async with (
        open_publisher(
            settings.amqp_url, "replaying events", exchange=topology.EVENTS
        ) as publisher,
        aclosing(ledger.selected(selection)) as batches,
    ):
        hidden = not stderr.is_terminal
        with Progress(*columns, console=stderr, transient=True, disable=hidden) as progress:
            bar = progress.add_task("publishing", total=count)
            try:
                async for outcomes in batches:
                    events = [event_of(outcome) for outcome in outcomes]
                    await publisher.publish_all(events, "events", f"a queue at {topology.EVENTS}")
                    published_count += len(outcomes)
                    progress.advance(bar, len(outcomes))
            except BrokerUnusable as failure:
                raise type(failure)(
                    f"{failure}; {published_count:,} outcomes were published before: replay them "
                    "all again, subscribers drop what they have seen"
                ) from failure
    seconds = time.perf_counter() - begun
    skipped = _skipped(ledger.unreadable_count)
    print(
        f"published {published_count:,} recorded outcomes in {seconds:.1f} s{skipped}", flush=True
    )


def _skipped(count: int) -> str:
    """The end of the summary, if any entries could not be read."""
    if not count:
        return ""
    return (
        f"; left out {count:,} that are not as a worker writes them, see `reservation-worker audit`"
    )


async def _missing(ledger: Ledger, selection: Selection) -> list[str]:
    """The given request ids that have no outcome, in their order."""
    recorded = await ledger.outcomes(selection.request_ids)
    return [request_id for request_id in selection.request_ids if request_id not in recorded]


def _require_selection(selection: Selection, *, everything: bool) -> None:
    if everything == (selection != Selection()):
        raise BadInput(
            "say which outcomes: request ids, --movie, --since or --until, or else --all"
        )
    if selection.since and selection.until and selection.since >= selection.until:
        raise BadInput("--since must be before --until; there is nothing between these two")
