"""What a dead letter is about: its error, its request and its movie; and which ones are selected.

A dead letter may hold anything, even no request at all. So that each can be named, it has a short
name made from its content; copies of one dead letter share it.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import AsyncGenerator, Collection, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Final

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress

from contracts import InvalidRequest, ReservationRequest, UnreadableRequest, read_request, topology
from worker.broker.dead_letters import DeadLetter, DeadLetterQueue

DELIVERY_REASON: Final = "x-first-death-reason"
"""Set by RabbitMQ on what it dead-letters itself, such as ``delivery_limit``."""
UNKNOWN_ERROR: Final = "unknown"
KINDS_MAX: Final = 50
"""Anyone may publish dead letters; beyond this many different errors they are counted together."""
OTHER_ERRORS: Final = "others"
ERROR_CHARACTERS_MAX: Final = 60
NAME_DIGITS: Final = 10
"""40 bits: in a million dead letters, two share a name by chance with a probability of 0.37."""


@dataclass(frozen=True, slots=True)
class ReadDeadLetter:
    """A dead letter, and what could be read from it."""

    raw: DeadLetter
    error: str
    detail: str
    request: ReservationRequest | InvalidRequest | UnreadableRequest

    @property
    def name(self) -> str:
        """Ten hexadecimal digits, always the same for the same dead letter."""
        delivery = self.raw.delivery
        parts = (
            *(self.error, self.detail, delivery.routing_key),
            *(delivery.correlation_id or "", delivery.reply_to or ""),
        )
        digest = hashlib.sha256(delivery.body)
        for part in parts:
            digest.update(b"\0" + part.encode(errors="surrogatepass"))
        return digest.hexdigest()[:NAME_DIGITS]

    @property
    def request_id(self) -> str | None:
        """The id of the request, if there is a valid one."""
        return None if isinstance(self.request, UnreadableRequest) else self.request.request_id

    @property
    def movie_id(self) -> str | None:
        """The movie of the request, or else the routing key, which is the movie id as published."""
        known = None if isinstance(self.request, UnreadableRequest) else self.request.movie_id
        return known or self.raw.delivery.routing_key or None


@dataclass(frozen=True, slots=True)
class Selection:
    """The dead letters that match each criterion given, by any of its values."""

    errors: Collection[str] = ()
    movie_ids: Collection[str] = ()
    ids: Collection[str] = ()
    """Request ids, or names of dead letters."""

    @property
    def is_everything(self) -> bool:
        """Whether no criterion is given, so that every dead letter is selected."""
        return not (self.errors or self.movie_ids or self.ids)

    def includes(self, dead_letter: ReadDeadLetter) -> bool:
        """Whether this dead letter is selected."""
        return (
            (not self.errors or dead_letter.error in self.errors)
            and (not self.movie_ids or dead_letter.movie_id in self.movie_ids)
            and (not self.ids or dead_letter.request_id in self.ids or dead_letter.name in self.ids)
        )


@dataclass(slots=True)
class Counts:
    """How many dead letters there are of each error, and how many of these are selected."""

    seen: Counter[str] = field(default_factory=Counter)
    selected: Counter[str] = field(default_factory=Counter)

    def note(self, dead_letter: ReadDeadLetter, *, selected: bool) -> None:
        """Count a dead letter."""
        is_known = dead_letter.error in self.seen or len(self.seen) < KINDS_MAX
        error = dead_letter.error if is_known else OTHER_ERRORS
        self.seen[error] += 1
        self.selected[error] += selected


def read_dead_letter(dead_letter: DeadLetter) -> ReadDeadLetter:
    """Read a dead letter; never raises."""
    headers: Mapping[str, object] = dead_letter.headers
    error = headers.get(topology.DEAD_LETTER_ERROR) or headers.get(DELIVERY_REASON)
    return ReadDeadLetter(
        dead_letter,
        str(error or UNKNOWN_ERROR)[:ERROR_CHARACTERS_MAX],
        str(headers.get(topology.DEAD_LETTER_DETAIL) or ""),
        read_request(dead_letter.delivery.body, dead_letter.delivery.content_type),
    )


async def read_through(queue: DeadLetterQueue, action: str) -> AsyncGenerator[list[ReadDeadLetter]]:
    """The dead letters a page at a time, with a progress bar if standard error is a terminal."""
    stderr = Console(stderr=True)
    columns = (*Progress.get_default_columns(), MofNCompleteColumn())
    hidden = not stderr.is_terminal
    with Progress(*columns, console=stderr, transient=True, disable=hidden) as progress:
        bar = progress.add_task(action, total=queue.count)
        async with aclosing(queue.pages()) as pages:
            async for page in pages:
                yield [read_dead_letter(dead_letter) for dead_letter in page]
                progress.advance(bar, len(page))


async def survey(queue: DeadLetterQueue, selection: Selection, shown_max: int) -> Survey:
    """Look at every dead letter, and keep the first of those that are selected."""
    found = Survey()
    async with aclosing(read_through(queue, "reading dead letters")) as pages:
        async for page in pages:
            for dead_letter in page:
                is_selected = selection.includes(dead_letter)
                found.counts.note(dead_letter, selected=is_selected)
                if is_selected and len(found.first) < shown_max:
                    found.first.append(dead_letter)
    return found


@dataclass(slots=True)
class Survey:
    """What a look at all dead letters found."""

    counts: Counts = field(default_factory=Counts)
    first: list[ReadDeadLetter] = field(default_factory=list)
