"""What is to be mutated, and which mutants are known to survive: the two lists beside this file."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Final, NamedTuple

HERE: Final = Path(__file__).parent
PLAN: Final = HERE / "plan.toml"
EQUIVALENT: Final = HERE / "equivalent.toml"


class Change(NamedTuple):
    """A mutant as people name it, which survives edits elsewhere in the file."""

    file: str
    function: str
    """The function, method or class around it, such as ``Recorder.now``."""
    before: str
    """The lines that are changed, without their indentation."""
    after: str


@dataclass(frozen=True)
class Plan:
    """The tests for each file that is mutated, and why the other files are left out."""

    tests: Mapping[str, list[str]]
    left_out: Mapping[str, str]


def read_plan() -> Plan:
    """The plan in ``plan.toml``, with the paths of the tests."""
    plan = tomllib.loads(PLAN.read_text())
    tests = {
        file: [f"tests/unit/{name}.py" for name in names] for file, names in plan["tests"].items()
    }
    return Plan(tests, plan["left_out"])


def read_equivalent() -> dict[Change, str]:
    """The mutants that no test can kill, and the reason of each."""
    entries = tomllib.loads(EQUIVALENT.read_text())["equivalent"]
    return {
        Change(entry["file"], entry["function"], before, after): entry["reason"]
        for entry in entries
        for before, after in entry["changes"]
    }


class Difference(NamedTuple):
    """Where the survivors of a run and the list of the equivalent ones do not agree."""

    unlisted: Collection[Change]
    """Survive and are not on the list."""
    outdated: Collection[Change]
    """Are on the list and do not survive, or do not exist any more."""


def difference(
    survivors: Collection[Change], equivalent: Collection[Change], files: Collection[str]
) -> Difference:
    """What is left to do about these files."""
    concerned = {change for change in equivalent if change.file in files}
    return Difference(sorted({*survivors} - concerned), sorted(concerned - {*survivors}))


def as_entries(changes: Iterable[Change]) -> str:
    """Entries for the list, all but the reason."""
    lines: list[str] = []
    for (file, function), group in groupby(changes, lambda change: change[:2]):
        lines += ["[[equivalent]]", f'file = "{file}"', f'function = "{function}"']
        lines += ['reason = ""', "changes = ["]
        for change in group:
            lines.append(f"    [{_as_string(change.before)}, {_as_string(change.after)}],")
        lines += ["]", ""]
    return "\n".join(lines)


def _as_string(text: str) -> str:
    """A literal string of TOML where possible, else a basic one, which JSON has as well."""
    return json.dumps(text, ensure_ascii=False) if "'" in text else f"'{text}'"
