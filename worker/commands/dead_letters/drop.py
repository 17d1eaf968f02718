"""``dead-letters drop``: removes dead letters for good."""

from __future__ import annotations

from contextlib import aclosing

from worker.broker.dead_letters import open_dead_letters
from worker.commands.dead_letters.selection import Selection, read_through
from worker.commands.dead_letters.show import print_counts
from worker.commands.prompt import require_consent
from worker.errors import BadInput
from worker.settings import Settings


async def drop_dead_letters(
    settings: Settings,
    selection: Selection,
    *,
    everything: bool = False,
    dry_run: bool = False,
    yes: bool = False,
) -> None:
    """The command: count, ask, and drop what is selected, and no more than was counted.

    Raises BadInput if nothing is selected by an option, or if there is no terminal to ask at;
    BrokerUnusable.
    """
    if everything != selection.is_everything:
        raise BadInput("say which dead letters: --error, --movie or --id, or else --all")
    counts = await print_counts(settings, selection)
    counted = counts.selected.total()
    question = f"Drop {counted:,} of {counts.seen.total():,} dead letters for good?"
    if dry_run or not counted or not await require_consent(question, given=yes):
        print(f"nothing was dropped of {counted:,} selected dead letters", flush=True)
        return
    dropped_count = 0
    async with (
        open_dead_letters(settings.amqp_url) as queue,
        aclosing(read_through(queue, "dropping")) as pages,
    ):
        async for page in pages:
            selected = [found for found in page if selection.includes(found)]
            dropped = selected[: counted - dropped_count]
            await queue.remove(found.raw for found in dropped)
            dropped_count += len(dropped)
    print(f"dropped {dropped_count:,} dead letters", flush=True)
