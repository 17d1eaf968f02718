"""Runs tests against mutants, each in a forked process that starts with everything imported.

What pytest, hypothesis and the libraries take to be imported, a second and more, is spent once and
not for each mutant. Only the project's own modules are imported in the child, and one of them from
the mutated source. Nothing on the disk is changed.
"""

from __future__ import annotations

import gc
import importlib.util
import os
import random
import resource
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from io import StringIO
from itertools import islice
from math import ceil
from pathlib import Path
from types import CodeType, ModuleType
from typing import Final

import pytest
from hypothesis import settings

from tests.mutation.mutants import Mutant

ROOT: Final = Path(__file__).parents[2]
OURS: Final = ("worker", "contracts", "tests.unit")
PROFILE: Final = "mutants"
PYTEST: Final = (
    *("-x", "-q", "-p", "no:cacheprovider"),
    # Plugins are imported already, which pytest warns of, and warnings are errors here.
    *("-W", "ignore::pytest.PytestAssertRewriteWarning"),
    # Without the fixtures of all tests, which import every driver.
    *("--confcutdir", "tests/unit"),
    *("--hypothesis-profile", PROFILE),
)
MEMORY_BYTES_MAX: Final = 4 << 30
WALL_SECONDS_MIN: Final = 15
"""A mutant that waits for ever uses no processor, and other processes may slow this one down."""


@dataclass(frozen=True, slots=True)
class Task:
    """A mutant, or none of them, and the tests to run."""

    mutant: Mutant | None
    tests: Sequence[str]
    processor_seconds: float | None = None
    """How long the tests take without a mutant."""


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a task."""

    task: Task
    survived: bool
    """Whether all tests passed, and in time."""
    processor_seconds: float


def prepare(tests: Sequence[str]) -> None:
    """Import everything that these tests need, except the modules of the project."""
    # Few examples, and the same ones in each run: a mutant must not survive by bad luck.
    settings.register_profile(
        PROFILE, max_examples=40, derandomize=True, database=None, deadline=None
    )
    with redirect_stdout(StringIO()) as output:
        code = pytest.main([*PYTEST, "--collect-only", *tests])
    if code != pytest.ExitCode.OK:
        raise SystemExit(f"the tests cannot be collected:\n{output.getvalue()}")
    for name in list(sys.modules):
        if name.startswith(OURS):
            del sys.modules[name]
    gc.collect()
    gc.freeze()


def run(tasks: Iterator[Task], processes: int) -> Iterator[Result]:
    """The results as they come, of so many tasks at a time."""
    running = {_start(task): task for task in islice(tasks, processes)}
    while running:
        process, status, usage = os.wait4(-1, 0)
        task = running.pop(process)
        yield Result(task, status == 0, usage.ru_utime + usage.ru_stime)
        running |= {_start(task): task for task in islice(tasks, 1)}


def _start(task: Task) -> int:
    process = os.fork()
    if process == 0:
        code = 1
        try:
            code = _run_tests(task)
        finally:
            os._exit(code)
    return process


def _run_tests(task: Task) -> int:
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nowhere, standard)
    if task.processor_seconds is not None:
        _limit(task.processor_seconds)
    if task.mutant is not None:
        sys.meta_path.insert(0, _MutantFinder(task.mutant))
    random.seed(0)  # For the waits between retries, which tenacity draws.
    return int(pytest.main([*PYTEST, *task.tests]))


def _limit(processor_seconds: float) -> None:
    """End this process when it takes many times as long as it should."""
    seconds = ceil(3 + 3 * processor_seconds)
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    if sys.platform == "linux":  # macOS refuses any such limit.
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES_MAX, MEMORY_BYTES_MAX))
    signal.alarm(WALL_SECONDS_MIN + ceil(4 * processor_seconds))


class _MutantFinder(MetaPathFinder):
    """Finds one module, in its mutated form."""

    def __init__(self, mutant: Mutant) -> None:
        self._mutant = mutant
        self._module = mutant.change.file.removesuffix(".py").replace("/", ".")

    def find_spec(
        self, fullname: str, _path: Sequence[str] | None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self._module:
            return None
        path = str(ROOT / self._mutant.change.file)
        loader = _MutantLoader(fullname, path, self._mutant.source)
        return importlib.util.spec_from_file_location(fullname, path, loader=loader)


class _MutantLoader(SourceFileLoader):
    """Executes a source that is not on the disk."""

    def __init__(self, name: str, path: str, source: str) -> None:
        super().__init__(name, path)
        self._source = source

    def get_code(self, _fullname: str) -> CodeType:
        return compile(self._source, self.path, "exec", dont_inherit=True)
