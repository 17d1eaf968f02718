"""`dead-letters drop`: takes letters out of the queue for good."""

from __future__ import annotations

from contextlib import aclosing

from worker.broker.dead_letters import dead_letters
from worker.commands.dead_letters.redrive import counted
from worker.commands.dead_letters.selection import Choice, read_through
from worker.commands.prompt import require_consent
from worker.errors import BadInput
from worker.settings import Settings


async def drop_letters(
    settings: Settings,
    choice: Choice,
    *,
    everything: bool = False,
    dry_run: bool = False,
    yes: bool = False,
) -> None:
    """The command: count, ask, and drop what is chosen; never more letters than were counted.

    Raises BadInput for no choice and where there is nobody to ask, BrokerUnusable.
    """
    if everything == (choice != Choice()):
        raise BadInput("say which letters: --error, --movie or --id, or else --all")
    found = await counted(settings, choice)
    most = found.counts.chosen.total()
    question = f"Drop {most:,} of {found.counts.seen.total():,} dead letters for good?"
    if dry_run or not most or not await require_consent(question, given=yes):
        print(f"nothing was dropped of {most:,} letters that are chosen", flush=True)
        return
    dropped_count = 0
    async with (
        dead_letters(settings.amqp_url) as queue,
        aclosing(read_through(queue, "dropping")) as portions,
    ):
        async for portion in portions:
            chosen = [one for one in portion if choice.takes(one)][: most - dropped_count]
            await queue.remove(one.letter for one in chosen)
            dropped_count += len(chosen)
    print(f"dropped {dropped_count:,} dead letters", flush=True)
