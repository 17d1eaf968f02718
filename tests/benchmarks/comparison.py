"""The cases that are compared: all contestants, on the same servers in the same run."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from tests.benchmarks.harness import WORKER, Case
from tests.benchmarks.workloads import DUPLICATES, HOT, SOLD_OUT, SPREAD

ECHOES: Final = ("echo", "batched echo")
RESERVERS: Final = ("sketch", WORKER)
CONTESTANTS: Final = (*ECHOES, *RESERVERS)
WORKLOADS: Final = (HOT, SPREAD, SOLD_OUT, DUPLICATES)
PROCESSES: Final = (1, 2)


def cases(only: Collection[str], *, quick: bool) -> list[Case]:
    """Every contestant with one and two processes.

    All requests are alike to an echo, so it has one workload. A quick run has two processes on the
    hot movie only.
    """
    return [
        Case(contestant, workload, processes)
        for workload in WORKLOADS
        for processes in PROCESSES
        for contestant in (CONTESTANTS if workload is HOT else RESERVERS)
        if contestant in (only or CONTESTANTS)
        and not (quick and processes > 1 and workload is not HOT)
    ]
