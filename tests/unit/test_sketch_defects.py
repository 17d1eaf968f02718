"""The four defects of the sketch that this project grew from, none of which may come back.

The sketch reads the version, checks that the slot has room, and then runs findOneAndUpdate with
that version in its filter. It is reproduced here unchanged, on documents in memory; each test is a
scenario that the sketch gets wrong, as a control, and the worker gets right.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Final

from contracts import ReservationRequest
from tests.unit.fakes import FakeStore, record
from tests.unit.values import ask, movie, shown
from worker.rules.snapshot import Movie, TimeSlot
from worker.service.recording import Recorder

ROOM_IN_THE_FIRST: Final = {1: TimeSlot(10, 9), 2: TimeSlot(5, 5)}


@dataclass
class Sketch:
    """One request per round trip, as first written."""

    document: dict[str, Any]

    def reserve(self, request: ReservationRequest) -> bool:
        return self.update(request, self.read_version())

    def read_version(self) -> int:
        return int(self.document["version"])

    def update(self, request: ReservationRequest, version: int) -> bool:
        """``findOneAndUpdate({_id, version, $expr: {$lt: [bookedCount, capacity]}}, {$inc})``."""
        found = self.document if self.matches(version) else None
        if found is not None:
            found["version"] += 1
            slot = next(s for s in found["timeSlots"] if s["id"] == request.time_slot_id)
            slot["bookedCount"] += request.number_of_people
        reply = {"ok": 1, "value": found}
        return reply["ok"] == 1  # Defect 3: also true of a command that matched nothing.

    def matches(self, version: int) -> bool:
        # Defect 1: ``$timeSlots.bookedCount`` is the array of all counts, and MongoDB compares
        # arrays element by element, as Python compares lists. Defect 2: any room is enough.
        booked = [slot["bookedCount"] for slot in self.document["timeSlots"]]
        capacity = [slot["capacity"] for slot in self.document["timeSlots"]]
        return bool(self.document["version"] == version and booked < capacity)

    def booked(self, slot_id: int) -> int:
        slots = self.document["timeSlots"]
        return int(next(slot["bookedCount"] for slot in slots if slot["id"] == slot_id))


def sketch_of(start: Movie) -> Sketch:
    slots = [
        {"id": slot_id, "capacity": slot.capacity, "bookedCount": slot.booked_count}
        for slot_id, slot in start.time_slots.items()
        if isinstance(slot, TimeSlot)
    ]
    return Sketch({"_id": start.key, "version": start.version, "timeSlots": slots})


def ours(start: Movie) -> tuple[FakeStore, Recorder]:
    store = FakeStore(movies={str(start.key): start})
    return store, Recorder(store)


def booked(store: FakeStore, slot_id: int) -> int:
    slot = store.movies["heat"].time_slots[slot_id]
    assert isinstance(slot, TimeSlot)
    return slot.booked_count


async def test_room_in_another_slot_is_no_room_in_this_one() -> None:
    start = movie(slots=ROOM_IN_THE_FIRST)
    request = ask(slot=2, people=1)

    sketch = sketch_of(start)
    assert sketch.reserve(request)
    assert sketch.booked(2) == 6, "the control: six people on five seats"

    store, recorder = ours(start)
    assert [shown(d) for d in await record(recorder, [request])] == ["sold_out, version 7, 0 left"]
    assert booked(store, 2) == 5


async def test_a_full_slot_before_this_one_does_not_close_this_one() -> None:
    start = movie(slots={1: TimeSlot(5, 5), 2: TimeSlot(10, 12), 3: TimeSlot(9, 0)})
    request = ask(slot=3)

    sketch = sketch_of(start)
    assert sketch.reserve(request)
    assert sketch.booked(3) == 0, "the control: accepted, and nothing was booked"

    store, recorder = ours(start)
    assert [shown(d) for d in await record(recorder, [request])] == ["confirmed, version 8, 7 left"]
    assert booked(store, 3) == 2


async def test_room_for_one_is_no_room_for_two() -> None:
    start = movie(slots={1: TimeSlot(10, 9)})
    request = ask(people=2)

    sketch = sketch_of(start)
    assert sketch.reserve(request)
    assert sketch.booked(1) == 11, "the control: eleven people on ten seats"

    store, recorder = ours(start)
    assert [shown(d) for d in await record(recorder, [request])] == ["sold_out, version 7, 1 left"]
    assert booked(store, 1) == 9


async def test_a_lost_race_is_not_a_booking() -> None:
    start = movie(slots={1: TimeSlot(10, 8)})
    first, second = ask("a"), ask("b")

    sketch = sketch_of(start)
    version = sketch.read_version()
    assert [sketch.update(request, version) for request in (first, second)] == [True, True]
    assert sketch.booked(1) == 10, "the control: both are accepted, and one has no seats"

    store, recorder = ours(start)
    both_have_read = asyncio.Barrier(2)

    async def wait_for_the_other() -> None:
        if len(store.tried) <= 2:
            await both_have_read.wait()

    store.between = wait_for_the_other
    other = Recorder(store)
    (one,), (two,) = await asyncio.gather(record(recorder, [first]), record(other, [second]))
    expected = ["confirmed, version 8, 0 left", "sold_out, version 8, 0 left"]
    assert sorted([shown(one), shown(two)]) == expected
    assert booked(store, 1) == 10
    assert recorder.tally.conflicts + other.tally.conflicts == 1


async def test_a_redelivery_does_not_book_again() -> None:
    start = movie(slots={1: TimeSlot(10, 0)})
    request = ask()

    sketch = sketch_of(start)
    assert [sketch.reserve(request) for _ in range(3)] == [True, True, True]
    assert sketch.booked(1) == 6, "the control: six seats for two people"

    store, recorder = ours(start)
    answers = [await record(recorder, [request]) for _ in range(3)]
    assert answers[0] == answers[1] == answers[2]
    assert booked(store, 1) == 2
