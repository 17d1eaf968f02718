"""What holds of every decision, whatever the batch: looked for by hypothesis."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from hypothesis import given
from hypothesis import strategies as st

from contracts import OutcomeEvent
from tests.unit.values import NOW, SECOND, ask, confirmed, faulty, found_invalid
from worker.rules.decision import Request, Reused, decide
from worker.rules.snapshot import Movie, Snapshot, TimeSlot

# Few names, so that requests meet each other, the movies and the ledger.
IDS: Final = st.sampled_from("abcdefgh")
MOVIES: Final = st.sampled_from(["heat", "alien", "jaws"])
SLOTS: Final = st.integers(1, 3)

VALID: Final = st.builds(
    ask,
    IDS,
    movie=MOVIES,
    slot=SLOTS,
    people=st.integers(1, 6),
    expires_at=st.sampled_from([None, None, NOW - SECOND, NOW + SECOND]),
)
INVALID: Final = st.builds(
    faulty, IDS, held=st.sampled_from("01"), field=st.sampled_from(["movieId", "numberOfPeople"])
)
BATCHES: Final = st.lists(VALID | INVALID, max_size=30)
TIME_SLOTS: Final = st.builds(TimeSlot, capacity=st.integers(0, 12), booked_count=st.integers(0, 8))
CATALOGUES: Final = st.dictionaries(
    st.sampled_from(["heat", "alien"]),
    st.builds(
        Movie,
        key=st.just("key"),
        version=st.integers(0, 5),
        time_slots=st.dictionaries(SLOTS, TIME_SLOTS),
    ),
)
LEDGERS: Final = st.lists(VALID.map(confirmed) | INVALID.map(found_invalid), max_size=4).map(
    lambda entries: {entry.request_id: entry for entry in entries}
)

Movies = Mapping[str, Movie]
Ledger = Mapping[str, OutcomeEvent]


@given(BATCHES, CATALOGUES, LEDGERS)
def test_no_slot_is_ever_booked_beyond_its_capacity(
    requests: Sequence[Request], movies: Movies, ledger: Ledger
) -> None:
    for booking in decide(requests, Snapshot(movies, ledger), NOW).bookings:
        for slot_id, people in booking.people.items():
            slot = booking.movie.time_slots[slot_id]
            assert isinstance(slot, TimeSlot)
            assert 0 < people <= slot.capacity - slot.booked_count


@given(BATCHES, CATALOGUES, LEDGERS)
def test_the_bookings_are_the_people_of_the_new_confirmations(
    requests: Sequence[Request], movies: Movies, ledger: Ledger
) -> None:
    decided = decide(requests, Snapshot(movies, ledger), NOW)
    names = {id(movie): name for name, movie in movies.items()}
    booked = Counter[tuple[str, int]]()
    for booking in decided.bookings:
        for slot_id, people in booking.people.items():
            booked[names[id(booking.movie)], slot_id] += people
    asked = Counter[tuple[str, int]]()
    for outcome in decided.outcomes:
        if outcome.outcome == "confirmed":
            assert outcome.movie_id is not None
            assert outcome.time_slot_id is not None
            asked[outcome.movie_id, outcome.time_slot_id] += outcome.number_of_people or 0
    assert booked == asked


@given(BATCHES, CATALOGUES, LEDGERS)
def test_the_same_input_gives_the_same_decisions(
    requests: Sequence[Request], movies: Movies, ledger: Ledger
) -> None:
    before = copy.deepcopy((requests, movies, ledger))
    first, second = (decide(requests, Snapshot(movies, ledger), NOW) for _ in range(2))
    assert first == second
    assert (requests, movies, ledger) == before


@given(BATCHES, CATALOGUES, LEDGERS)
def test_each_request_gets_one_decision_and_in_its_place(
    requests: Sequence[Request], movies: Movies, ledger: Ledger
) -> None:
    decisions = decide(requests, Snapshot(movies, ledger), NOW).decisions
    assert len(decisions) == len(requests)
    for request, decision in zip(requests, decisions, strict=True):
        if isinstance(decision, OutcomeEvent):
            asked = (request.request_id, request.movie_id, request.time_slot_id)
            assert asked == (decision.request_id, decision.movie_id, decision.time_slot_id)


@given(BATCHES, CATALOGUES, LEDGERS)
def test_all_outcomes_of_one_request_id_are_one(
    requests: Sequence[Request], movies: Movies, ledger: Ledger
) -> None:
    seen = dict(ledger)
    for decision in decide(requests, Snapshot(movies, ledger), NOW).decisions:
        if isinstance(decision, OutcomeEvent):
            assert seen.setdefault(decision.request_id, decision) == decision
        else:
            assert isinstance(decision, Reused)


@given(BATCHES, CATALOGUES)
def test_a_batch_decided_again_after_its_commit_is_only_replayed(
    requests: Sequence[Request], movies: Movies
) -> None:
    first = decide(requests, Snapshot(movies, {}), NOW)
    recorded = {outcome.request_id: outcome for outcome in first.outcomes}
    again = decide(requests, Snapshot(movies, recorded), NOW + SECOND)
    assert (again.outcomes, again.bookings) == ([], [])
    assert [type(d) for d in again.decisions] == [type(d) for d in first.decisions]
    for before, after in zip(first.decisions, again.decisions, strict=True):
        assert before == after or isinstance(before, Reused)


@given(BATCHES, CATALOGUES)
def test_what_comes_later_in_a_batch_changes_nothing_before_it(
    requests: Sequence[Request], movies: Movies
) -> None:
    whole = decide(requests, Snapshot(movies, {}), NOW).decisions
    half = len(requests) // 2
    assert decide(requests[:half], Snapshot(movies, {}), NOW).decisions == whole[:half]
