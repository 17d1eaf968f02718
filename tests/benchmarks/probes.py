"""What processes have used, as the kernel counts it: processor time and memory.

Read from ``/proc``, so that no package is needed; where there is none, nothing is known. What the
processes are is none of this module's business.
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
"""Places in ``/proc/PID/stat`` after the name in brackets; fields 14 and 15 of proc(5)."""

MemoryField = Literal["VmHWM", "VmRSS"]


def cpu_seconds(pids: Collection[int]) -> float | None:
    """User and system time that these processes have had, with all their threads."""
    if not sys.platform.startswith("linux"):
        return None
    ticks = 0
    for pid in pids:
        # The name may hold spaces and brackets, so only its last bracket is a safe place to cut.
        fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[UTIME]) + int(fields[STIME])
    return ticks / os.sysconf("SC_CLK_TCK")


def memory_mib(pid: int, field: MemoryField) -> float | None:
    """Resident memory of a process: the highest so far (VmHWM), or what it is now (VmRSS)."""
    if not sys.platform.startswith("linux"):
        return None
    status = (PROC / str(pid) / "status").read_text()
    found = re.search(rf"^{field}:\s+(\d+) kB$", status, re.MULTILINE)
    return int(found[1]) / 1024 if found else None


def machine() -> dict[str, object]:
    """What the figures depend on, for whoever compares them with others."""
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
