"""``python -m tests.fuzz``, which is ``make fuzz``: a coverage-guided fuzzer over the targets.

Runs atheris (https://github.com/google/atheris) in one process after another, each with one target
for its share of the time. The corpus is kept in a folder, so that the next run continues from
there; an input that breaks a target is printed as bytes that can become a seed.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from tests.fuzz.seeds import DICTIONARY, SEEDS

INPUT_BYTES_MAX: Final = 70_000
"""A little more than the 64 KiB of a request."""
EXAMPLE_SECONDS_MAX: Final = 5
INSTRUMENTED: Final = ["contracts", "worker", "pamqp"]
"""The packages whose coverage guides the fuzzer; pydantic's parser is not Python."""
ROOT: Final = Path(__file__).parents[2]


@dataclass(frozen=True)
class TargetResult:
    """The result of fuzzing one target."""

    target: str
    executions: int
    covered: int
    kept: int
    finding: Path | None


def main(arguments: Sequence[str] | None = None) -> int:
    """Fuzz the targets asked for; returns 1 if there were findings."""
    options = _parser().parse_args(arguments)
    if importlib.util.find_spec("atheris") is None:
        print("atheris is not installed; `make fuzz` installs it", file=sys.stderr)
        return 2
    if options.inside:
        _fuzz(options.targets[0], options.seconds, options.corpus)
    targets = options.targets or list(SEEDS)
    console = Console()
    results = []
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("fuzzing", total=len(targets))
        for target in targets:
            progress.update(bar, description=f"fuzzing {target}")
            results.append(_fuzz_in_child(target, options.seconds / len(targets), options.corpus))
            progress.advance(bar)
    console.print(_table(results))
    findings = [result.finding for result in results if result.finding]
    for finding in findings:
        console.print(f"{finding}: {finding.read_bytes()!r}", markup=False, soft_wrap=True)
    return 1 if findings else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make fuzz ARGS=...", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"one of {', '.join(SEEDS)}")
    parser.add_argument("--seconds", type=float, default=210, help="for all targets together (210)")
    parser.add_argument(
        "--corpus", type=Path, default=ROOT / ".fuzz", help="folder of the corpus (.fuzz)"
    )
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    return parser


def _fuzz_in_child(target: str, seconds: float, corpus: Path) -> TargetResult:
    """Fuzz in a child process, which the fuzzer ends in any case."""
    folder = corpus / target
    folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(SEEDS[target]):
        (folder / f"seed-{number}").write_bytes(seed)
    (corpus / "dictionary").write_text("".join(f"{_quoted(token)}\n" for token in DICTIONARY))
    before = set(corpus.glob(f"{target}-*"))
    command = (sys.executable, "-m", "tests.fuzz", target, "--inside", "--corpus", str(corpus))
    log = corpus / f"{target}.log"
    with log.open("w") as output:
        subprocess.run(
            [*command, "--seconds", str(seconds)], stdout=output, stderr=output, check=False
        )
    text = log.read_text(errors="replace")
    found = sorted(set(corpus.glob(f"{target}-*")) - before)
    if not found and "Done " not in text:
        raise SystemExit(f"the fuzzer failed, see {log}:\n{text[-2000:]}")
    status = re.findall(r"#(\d+)\t\w+ +cov: (\d+).*? corp: (\d+)/", text)
    executions, covered, kept = status[-1] if status else (0, 0, 0)
    return TargetResult(
        target, int(executions), int(covered), int(kept), found[0] if found else None
    )


def _quoted(token: str) -> str:
    return '"' + token.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _fuzz(target: str, seconds: float, corpus: Path) -> None:
    """Never returns."""
    atheris = importlib.import_module("atheris")
    with atheris.instrument_imports(include=INSTRUMENTED, enable_loader_override=False):
        targets = importlib.import_module("tests.fuzz.targets")
    options = (
        f"-max_total_time={max(1, round(seconds))}",
        f"-max_len={INPUT_BYTES_MAX}",
        f"-timeout={EXAMPLE_SECONDS_MAX}",
        f"-dict={corpus / 'dictionary'}",
        f"-artifact_prefix={corpus / target}-",
        "-len_control=20",
        str(corpus / target),
    )
    atheris.Setup([sys.argv[0], *options], targets.TARGETS[target])
    atheris.Fuzz()


def _table(results: Sequence[TargetResult]) -> Table:
    table = Table("target", "inputs tried", "places reached", "inputs kept", "finding")
    for result in results:
        counts = (f"{n:,}" for n in (result.executions, result.covered, result.kept))
        table.add_row(result.target, *counts, result.finding.name if result.finding else "none")
    return table


if __name__ == "__main__":
    sys.exit(main())
