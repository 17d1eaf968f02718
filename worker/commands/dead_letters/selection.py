"""What a dead letter is about: its error, its request and its movie; and which ones are chosen.

A letter may hold anything, also no request at all. So that every one can be named, it has a short
name made from what is in it; copies of one letter share theirs.
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
from worker.broker.dead_letters import Letter, LetterQueue

DELIVERY_REASON: Final = "x-first-death-reason"
"""Set by RabbitMQ on what it dead-letters itself, such as ``delivery_limit``."""
UNKNOWN_ERROR: Final = "unknown"
KINDS_MAX: Final = 50
"""Anybody may publish letters; beyond so many different errors they are counted together."""
OTHER_ERRORS: Final = "others"
ERROR_CHARACTERS_MAX: Final = 60
NAME_DIGITS: Final = 10
"""40 bits: two letters of a million share a name by chance once in two times."""


@dataclass(frozen=True, slots=True)
class OpenedLetter:
    """A letter that has been read as far as it can be."""

    letter: Letter
    error: str
    detail: str
    request: ReservationRequest | InvalidRequest | UnreadableRequest

    @property
    def name(self) -> str:
        """Ten hexadecimal digits, always the same for the same letter."""
        delivery = self.letter.delivery
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
        """The movie of the request, else the routing key, which publishers make from it."""
        known = None if isinstance(self.request, UnreadableRequest) else self.request.movie_id
        return known or self.letter.delivery.routing_key or None


@dataclass(frozen=True, slots=True)
class Choice:
    """The letters that fit everything that is given; each may be given several times."""

    errors: Collection[str] = ()
    movie_ids: Collection[str] = ()
    ids: Collection[str] = ()
    """Request ids, or names of letters."""

    def takes(self, letter: OpenedLetter) -> bool:
        """Whether this letter is chosen."""
        return (
            (not self.errors or letter.error in self.errors)
            and (not self.movie_ids or letter.movie_id in self.movie_ids)
            and (not self.ids or letter.request_id in self.ids or letter.name in self.ids)
        )


@dataclass(slots=True)
class Counts:
    """How many letters there are of each error, and how many of these are chosen."""

    seen: Counter[str] = field(default_factory=Counter)
    chosen: Counter[str] = field(default_factory=Counter)

    def note(self, letter: OpenedLetter, *, chosen: bool) -> None:
        """Count a letter."""
        is_known = letter.error in self.seen or len(self.seen) < KINDS_MAX
        error = letter.error if is_known else OTHER_ERRORS
        self.seen[error] += 1
        self.chosen[error] += chosen


def opened(letter: Letter) -> OpenedLetter:
    """Read a letter; never raises."""
    headers: Mapping[str, object] = letter.headers
    error = headers.get(topology.DEAD_LETTER_ERROR) or headers.get(DELIVERY_REASON)
    return OpenedLetter(
        letter,
        str(error or UNKNOWN_ERROR)[:ERROR_CHARACTERS_MAX],
        str(headers.get(topology.DEAD_LETTER_DETAIL) or ""),
        read_request(letter.delivery.body, letter.delivery.content_type),
    )


async def read_through(queue: LetterQueue, what: str) -> AsyncGenerator[list[OpenedLetter]]:
    """The letters a portion at a time, with a bar on standard error if it is a terminal."""
    stderr = Console(stderr=True)
    columns = (*Progress.get_default_columns(), MofNCompleteColumn())
    hidden = not stderr.is_terminal
    with Progress(*columns, console=stderr, transient=True, disable=hidden) as progress:
        bar = progress.add_task(what, total=queue.count)
        async with aclosing(queue.portions()) as portions:
            async for portion in portions:
                yield [opened(letter) for letter in portion]
                progress.advance(bar, len(portion))


async def survey(queue: LetterQueue, choice: Choice, shown_max: int) -> Survey:
    """Look at every letter, and keep the first of those that are chosen."""
    found = Survey()
    async with aclosing(read_through(queue, "reading dead letters")) as portions:
        async for portion in portions:
            for letter in portion:
                is_chosen = choice.takes(letter)
                found.counts.note(letter, chosen=is_chosen)
                if is_chosen and len(found.first) < shown_max:
                    found.first.append(letter)
    return found


@dataclass(slots=True)
class Survey:
    """What a look at all letters came to."""

    counts: Counts = field(default_factory=Counts)
    first: list[OpenedLetter] = field(default_factory=list)
