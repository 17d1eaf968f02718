"""``python -m tests.mutation``, which is ``make mutants``: do the tests notice when code changes?

Changes one place after another of what ``plan.toml`` names, and runs the tests that should notice.
A mutant that survives is either equivalent, and then ``equivalent.toml`` says why, or a test is
missing. Ends with 1 when the survivors and that list differ.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from tests.mutation.plan import (
    EQUIVALENT,
    Change,
    Difference,
    Plan,
    as_entries,
    difference,
    read_equivalent,
    read_plan,
)

if TYPE_CHECKING:
    from tests.mutation.running import Result, Task


def main(arguments: Sequence[str] | None = None) -> int:
    """Test what was asked for; 1 if a test is missing or the list is not up to date."""
    if importlib.util.find_spec("mutmut") is None:
        print("mutmut is not installed; `make mutants` does that", file=sys.stderr)
        return 2
    plan = read_plan()
    parser = _parser()
    options = parser.parse_args(arguments)
    if unknown := set(options.files) - set(plan.tests):
        parser.error(f"not in plan.toml: {', '.join(sorted(unknown))}")
    files = options.files or list(plan.tests)
    console = Console()
    results = _run(plan, files, options.processes, console)
    survivors = {_change(result) for result in results if result.survived}
    found = difference(survivors, read_equivalent(), files)
    console.print(_table(results, found))
    _explain(console, found)
    return 1 if found.unlisted or found.outdated else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make mutants ARGS=...", description=__doc__)
    parser.add_argument("files", nargs="*", metavar="FILE", help="default: all in plan.toml")
    parser.add_argument(
        "--processes", type=int, default=os.cpu_count() or 1, help="default: one for each core"
    )
    return parser


def _run(plan: Plan, files: Collection[str], processes: int, console: Console) -> list[Result]:
    from tests.mutation.running import prepare, run

    prepare(sorted({test for file in files for test in plan.tests[file]}))
    tasks = list(_tasks(plan, files))
    # A thread that draws by itself might hold a lock while a process is forked.
    with Progress(
        console=console, transient=True, auto_refresh=False, disable=not console.is_terminal
    ) as progress:
        bar = progress.add_task("mutants", total=len(tasks))
        results = []
        for result in run(iter(tasks), processes):
            results.append(result)
            progress.update(bar, advance=1, description=_change(result).file, refresh=True)
    return results


def _tasks(plan: Plan, files: Collection[str]) -> Iterator[Task]:
    """Each mutant with its tests, which have to pass without one."""
    from tests.mutation.mutants import mutants_of
    from tests.mutation.running import ROOT, Task, run

    for file in files:
        tests = plan.tests[file]
        (unchanged,) = run(iter([Task(None, tests)]), 1)
        if not unchanged.survived:
            raise SystemExit(f"these tests fail as it is: {' '.join(tests)}")
        for mutant in mutants_of(file, (ROOT / file).read_text()):
            yield Task(mutant, tests, unchanged.processor_seconds)


def _change(result: Result) -> Change:
    assert result.task.mutant is not None
    return result.task.mutant.change


def _table(results: Sequence[Result], found: Difference) -> Table:
    table = Table("file")
    for heading in ("mutants", "killed", "equivalent", "survived"):
        table.add_column(heading, justify="right")
    counts: dict[str, Counter[str]] = {}
    for result in results:
        change = _change(result)
        survived = "survived" if change in found.unlisted else "equivalent"
        verdict = survived if result.survived else "killed"
        counts.setdefault(change.file, Counter())[verdict] += 1
    for file, count in [*counts.items(), ("all", sum(counts.values(), Counter()))]:
        kinds = (count[kind] for kind in ("killed", "equivalent", "survived"))
        table.add_row(file, *(f"{number:,}" for number in (count.total(), *kinds)))
    return table


def _explain(console: Console, found: Difference) -> None:
    if found.unlisted:
        console.print("These survived. Write a test that fails with them, or, where none can, say")
        console.print(f"in {EQUIVALENT.name} why:\n")
        console.print(as_entries(found.unlisted), markup=False, highlight=False, soft_wrap=True)
    if found.outdated:
        console.print(f"These are in {EQUIVALENT.name}, but no such mutant survives:\n")
        console.print(as_entries(found.outdated), markup=False, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
