"""The plan of the mutation run leaves nothing out without a reason, and its verdict is right."""

from __future__ import annotations

import tomllib
from typing import Final

from tests.mutation.plan import Change, as_entries, difference, read_equivalent, read_plan
from tests.unit.test_architecture import ROOT, SOURCES

PACKAGES: Final = ("contracts", "worker/rules", "worker/service")
KILLED: Final = Change("a.py", "f", "x + 1", "x - 1")
SURVIVOR: Final = Change("a.py", "g", "'x' if y else z", "z")
ELSEWHERE: Final = Change("b.py", "h", "x", "y")


def test_each_file_is_mutated_or_left_out_for_a_reason() -> None:
    plan = read_plan()
    sources = [path.as_posix() for path in SOURCES]
    planned = [*plan.tests, *plan.left_out]
    assert sorted(planned) == [path for path in sources if path.startswith(PACKAGES)]
    assert all(plan.left_out.values())


def test_each_file_that_is_mutated_has_tests() -> None:
    for tests in read_plan().tests.values():
        assert tests
        assert [test for test in tests if not (ROOT / test).is_file()] == []


def test_each_equivalent_mutant_has_a_reason() -> None:
    equivalent = read_equivalent()
    assert all(equivalent.values())
    assert {change.file for change in equivalent} <= set(read_plan().tests)


def test_a_survivor_that_is_not_on_the_list_is_reported() -> None:
    assert difference({SURVIVOR}, set(), {"a.py"}) == ([SURVIVOR], [])
    assert difference({SURVIVOR}, {SURVIVOR}, {"a.py"}) == ([], [])


def test_an_entry_that_does_not_survive_any_more_is_reported() -> None:
    equivalent = {KILLED, SURVIVOR, ELSEWHERE}
    assert difference({SURVIVOR}, equivalent, {"a.py"}) == ([], [KILLED])


def test_survivors_are_shown_as_entries_for_the_list() -> None:
    entries = tomllib.loads(as_entries([KILLED, SURVIVOR]))["equivalent"]
    assert [(entry["function"], entry["changes"]) for entry in entries] == [
        ("f", [["x + 1", "x - 1"]]),
        ("g", [["'x' if y else z", "z"]]),
    ]
