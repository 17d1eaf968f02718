"""The results of all rounds: medians, as a table for a terminal and as JSON for programs."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Final

from rich.table import Table

from tests.benchmarks.harness import Case, Sample

UNKNOWN: Final = "-"
TENTHS_BELOW: Final = 10
REFERENCE: Final = "echo"

Figure = Callable[[Sample], float | None]


@dataclass(frozen=True, slots=True)
class Result:
    """All measurements of one case."""

    case: Case
    samples: Sequence[Sample]

    def median(self, figure: Figure) -> float | None:
        """The median over the rounds; None if it is not known."""
        known = [value for sample in self.samples if (value := figure(sample)) is not None]
        return statistics.median(known) if known else None

    @property
    def rate(self) -> float:
        return self.median(lambda sample: sample.requests_per_second) or 0


_FIGURES: Final[Mapping[str, Figure]] = {
    "requests_per_second": lambda sample: sample.requests_per_second,
    "worker_cpu_us": lambda sample: sample.worker_cpu_us,
    "rabbitmq_cpu_us": lambda sample: sample.rabbitmq_cpu_us,
    "mongod_cpu_us": lambda sample: sample.mongod_cpu_us,
    "conflicts_per_commit": lambda sample: sample.conflicts_per_commit,
    "peak_memory_mib": lambda sample: sample.peak_memory_mib,
    "latency_p50_ms": lambda sample: sample.latency_p50_ms,
    "latency_p99_ms": lambda sample: sample.latency_p99_ms,
}


def medians(result: Result) -> dict[str, float | None]:
    """The medians of all figures of a case, by name."""
    return {name: result.median(figure) for name, figure in _FIGURES.items()}


def ratio_to_echo(result: Result, results: Sequence[Result]) -> float | None:
    """Throughput relative to the ordinary echo with as many processes, on its only workload."""
    for other in results:
        same_processes = other.case.processes == result.case.processes
        if other.case.contestant == REFERENCE and same_processes:
            return result.rate / other.rate
    return None


def comparison_table(results: Sequence[Result]) -> Table:
    """One line for each case, in a section for each workload."""
    table = Table(title="medians", title_justify="left")
    table.add_column("workload", no_wrap=True)
    table.add_column("contestant", no_wrap=True)
    for name in ("proc.", "requests/s", "x echo", "worker", "RabbitMQ", "mongod"):
        table.add_column(f"CPU µs\n{name}" if name[0] in "wRm" else name, justify="right")
    for name in ("conflicts\n/ commit", "peak MiB", "p50 ms", "p99 ms"):
        table.add_column(name, justify="right")
    workload = ""
    for result in sorted(results, key=lambda result: _order(result, results)):
        case = result.case
        if case.workload.name != workload:
            workload = case.workload.name
            table.add_section()
        rate, *figures = medians(result).values()
        ratio = ratio_to_echo(result, results)
        conflicts = figures[3]
        table.add_row(
            workload,
            case.contestant,
            str(case.processes),
            shown(rate),
            UNKNOWN if ratio is None else f"{ratio:.2f}",
            *(shown(figure) for figure in figures[:3]),
            UNKNOWN if conflicts is None else f"{conflicts:.2f}",
            *(shown(figure) for figure in figures[4:]),
        )
    return table


def _order(result: Result, results: Sequence[Result]) -> tuple[int, int]:
    """Workloads in the order of their first result, then by processes; contestants stay."""
    names = [other.case.workload.name for other in results]
    return names.index(result.case.workload.name), result.case.processes


def shown(value: float | None) -> str:
    """A figure with its significant digits."""
    if value is None:
        return UNKNOWN
    return f"{value:.1f}" if value < TENTHS_BELOW else f"{value:,.0f}"


def as_json(results: Sequence[Result]) -> list[dict[str, object]]:
    """Medians and single measurements, named as in the table."""
    return [
        {
            "contestant": result.case.contestant,
            "workload": result.case.workload.name,
            "processes": result.case.processes,
            "ratio_to_echo": ratio_to_echo(result, results),
            **medians(result),
            "samples": [asdict(sample) for sample in result.samples],
        }
        for result in results
    ]
