"""The wheel, installed on its own: in an empty folder, and without the development tools."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest

from tests.acceptance.processes import ROOT

pytestmark = pytest.mark.network
"""pip builds in an environment of its own, for which it gets the build backend."""

DEADLINE_SECONDS: Final = 60
DEPENDENCIES: Final = tuple(dict.fromkeys(sysconfig.get_paths()[k] for k in ("purelib", "platlib")))


def pip(*arguments: str | Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments],
        check=True,
        timeout=DEADLINE_SECONDS,
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the packages of the wheel, and nothing else."""
    built, installed = tmp_path_factory.mktemp("built"), tmp_path_factory.mktemp("installed")
    pip("wheel", "--no-deps", "--wheel-dir", built, ROOT)
    (file,) = built.glob("reservation_worker-*.whl")
    pip("install", "--no-deps", "--target", installed, file)
    return installed


def python(wheel: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python in the folder, with the wheel and its dependencies as all there is to import.

    Without ``site`` (-S), which would add the checkout that is installed in this environment.
    """
    path = os.pathsep.join((str(wheel), *DEPENDENCIES))
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("RESERVATION_")}
    return subprocess.run(
        [sys.executable, "-S", *arguments],
        cwd=folder,
        env={**inherited, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE_SECONDS,
    )


def answer(wheel: Path, folder: Path, arguments: Sequence[str]) -> str:
    ended = python(wheel, folder, *arguments)
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout


def test_the_wheel_runs_in_an_empty_folder(wheel: Path, tmp_path: Path) -> None:
    program = "import contracts, worker; print(contracts.__file__, worker.__file__)"
    files = answer(wheel, tmp_path, ["-c", program]).split()
    assert all(Path(file).is_relative_to(wheel) for file in files)
    assert answer(wheel, tmp_path, ["-m", "worker", "--version"]).startswith("reservation-worker ")
    assert "exit codes:" in answer(wheel, tmp_path, ["-m", "worker", "--help"])
    assert "--keep" in answer(wheel, tmp_path, ["-m", "worker", "demo", "--help"])


@pytest.mark.parametrize("command", ["dev", "demo"])
def test_without_the_development_tools_their_commands_say_so(
    wheel: Path, tmp_path: Path, command: str
) -> None:
    image = Path(shutil.copytree(wheel, tmp_path / "image"))
    shutil.rmtree(image / "worker" / "devtools")
    ended = python(image, tmp_path, "-m", "worker", command)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == (
        "reservation-worker: dev and demo need a checkout or the full package; this installation "
        "has no worker.devtools\n"
    )


def test_without_the_development_tools_no_error_recommends_them(
    wheel: Path, tmp_path: Path
) -> None:
    image = Path(shutil.copytree(wheel, tmp_path / "image"))
    shutil.rmtree(image / "worker" / "devtools")
    unused = ("publish", "-", "--amqp-url", "amqp://127.0.0.1:1/")
    assert "worker dev" in python(wheel, tmp_path, "-m", "worker", *unused).stderr
    ended = python(image, tmp_path, "-m", "worker", *unused)
    assert (ended.returncode, "worker dev" in ended.stderr) == (3, False)
