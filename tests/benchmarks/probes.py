"""What processes have used, as the kernel counts it: processor time and memory.

Read from ``/proc``, so that no package is needed; without it nothing is known. Does not know what
the processes are.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Final, Literal

PROC: Final = Path("/proc")
UTIME: Final = 11
STIME: Final = 12
"""Indexes in ``/proc/PID/stat`` after the name in brackets: fields 14 and 15 of proc(5)."""

MemoryField = Literal["VmHWM", "VmRSS"]


def cpu_seconds(pids: Collection[int]) -> float | None:
    """User and system time that these processes have used, with all their threads."""
    if not sys.platform.startswith("linux"):
        return None
    ticks = 0
    for pid in pids:
        # The name may contain spaces and brackets, so only the last bracket ends it for certain.
        fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[UTIME]) + int(fields[STIME])
    return ticks / os.sysconf("SC_CLK_TCK")


def memory_mib(pid: int, field: MemoryField) -> float | None:
    """Resident memory of a process: its peak so far (VmHWM) or its present size (VmRSS)."""
    if not sys.platform.startswith("linux"):
        return None
    status = (PROC / str(pid) / "status").read_text()
    found = re.search(rf"^{field}:\s+(\d+) kB$", status, re.MULTILINE)
    return int(found[1]) / 1024 if found else None


def machine() -> dict[str, object]:
    """What the figures depend on, for comparing them with those of other machines."""
    model = ""
    if (PROC / "cpuinfo").exists():
        found = re.search(r"^model name\s*: (.*)$", (PROC / "cpuinfo").read_text(), re.MULTILINE)
        model = found[1] if found else ""
    return {
        "platform": sys.platform,
        "processor": model,
        "processors": os.cpu_count(),
        "python": sys.version.split()[0],
    }
