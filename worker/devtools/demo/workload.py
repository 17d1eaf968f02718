"""The movies of the demo, and the rush on them. Pure: the same seed gives the same requests.

Popularity falls off as it does at a premiere: one movie takes most of the requests, and of
its time slots the evening ones. The numbers are made up; what matters is that they are skewed.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

MOVIE_TITLES: Final = (
    "The Last Lighthouse", "A Quiet Orbit", "Night Train to Trieste", "Paper Tigers",
    "The Beekeeper's Daughter", "Zero Kelvin", "Salt and Honey", "The Long Field",
    "Harbour Lights", "Seven Winters", "The Glass Archive", "Kites over Kabul",
    "A Map of Small Rivers", "The Understudy", "Iron Season", "Blue Hour",
    "The Cartographer", "Ten Thousand Steps", "Mirror, Mirror", "The Orchard Keeper", "Static",
    "Last Call at the Ritz", "The Weight of Feathers",
)  # fmt: skip
HALL_SEATS: Final = (412, 286, 180, 140, 96, 64)
SHOW_TIMES: Final = ("11:00", "14:30", "17:15", "20:00", "22:45")
SHOW_TIME_WEIGHTS: Final = (1, 3, 6, 12, 5)
PARTY_SIZES: Final = (1, 2, 3, 4, 5, 6, 8, 12)
PARTY_WEIGHTS: Final = (18, 46, 12, 14, 4, 3, 2, 1)
POPULARITY_EXPONENT: Final = 1.3
"""Of the Zipf law by which a movie's rank becomes its share of the requests."""

DUPLICATE_SHARE: Final = 0.04
REUSED_SHARE: Final = 0.005
UNKNOWN_MOVIE_SHARE: Final = 0.005
UNKNOWN_SLOT_SHARE: Final = 0.005
EXPIRED_SHARE: Final = 0.005
INVALID_SHARE: Final = 0.005
UNREADABLE_SHARE: Final = 0.003

UNREADABLE_BODIES: Final = (
    b"two seats please",
    b'{"movieId": "the-last-lighthouse"}',
    b"\xff\xfe",
    b"[]",
)

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Sent:
    """One message of the rush: its body, and the request id if it is one that can be answered."""

    body: bytes
    movie_id: str
    request_id: str | None


def cinema() -> list[Document]:
    """The movies as ``movies import`` takes them, each in one hall with the same show times."""
    return [
        {
            "_id": _slug(title),
            "title": title,
            "timeSlots": [
                {"id": number, "starts": starts, "hall": rank % len(HALL_SEATS) + 1,
                 "capacity": HALL_SEATS[rank % len(HALL_SEATS)]}
                for number, starts in enumerate(SHOW_TIMES, start=1)
            ],
        }
        for rank, title in enumerate(MOVIE_TITLES)
    ]  # fmt: skip


def rush(movies: Sequence[Document], count: int, seed: int) -> list[Sent]:
    """``count`` messages, in the order in which they are published."""
    chance = random.Random(seed)  # noqa: S311  # Simulated requests, not a secret.
    messages: list[Sent] = []
    requests: list[tuple[Document, Sent]] = []
    for body in _requests(movies, chance):
        if len(messages) == count:
            return messages
        dice = chance.random()
        if requests and dice < DUPLICATE_SHARE:
            messages.append(chance.choice(requests)[1])
        elif requests and dice < DUPLICATE_SHARE + REUSED_SHARE:
            earlier = chance.choice(requests)[0]
            messages.append(_sent({**earlier, "numberOfPeople": 13}))
        elif dice < DUPLICATE_SHARE + REUSED_SHARE + UNREADABLE_SHARE:
            messages.append(Sent(chance.choice(UNREADABLE_BODIES), "unknown", None))
        else:
            request = _with_faults(body, chance)
            requests.append((request, _sent(request)))
            messages.append(requests[-1][1])
    return messages


def _requests(movies: Sequence[Document], chance: random.Random) -> Iterator[Document]:
    weights = [1 / rank**POPULARITY_EXPONENT for rank in range(1, len(movies) + 1)]
    while True:
        movie = chance.choices(movies, weights)[0]
        slot = chance.choices(movie["timeSlots"], SHOW_TIME_WEIGHTS)[0]
        yield {
            "requestId": str(UUID(int=chance.getrandbits(128), version=4)),
            "movieId": movie["_id"],
            "timeSlotId": slot["id"],
            "numberOfPeople": chance.choices(PARTY_SIZES, PARTY_WEIGHTS)[0],
        }


def _with_faults(request: Document, chance: random.Random) -> Document:
    faults: Sequence[tuple[float, Mapping[str, object]]] = (
        (UNKNOWN_MOVIE_SHARE, {"movieId": "the-room-ii"}),
        (UNKNOWN_SLOT_SHARE, {"timeSlotId": 99}),
        (EXPIRED_SHARE, {"expiresAt": "2020-01-01T00:00:00Z"}),
        (INVALID_SHARE, {"numberOfPeople": 0}),
    )
    for share, changes in faults:
        if chance.random() < share:
            return {**request, **changes}
    return request


def _sent(request: Document) -> Sent:
    return Sent(json.dumps(request).encode(), request["movieId"], request["requestId"])


def _slug(title: str) -> str:
    kept = "".join(
        character for character in title.lower() if character.isalnum() or character == " "
    )
    return "-".join(kept.split())
