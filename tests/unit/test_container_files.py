"""The pins, the image and the compose file say the same as the project that they are made from."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Final

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from worker.settings import PREFIX, Settings

ROOT: Final = Path(__file__).parents[2]
PROJECT: Final = tomllib.loads((ROOT / "pyproject.toml").read_text())
DOCKERFILE: Final = (ROOT / "Dockerfile").read_text()
COMPOSE: Final = (ROOT / "docker-compose.yml").read_text()

PIN: Final = re.compile(r"[\w.-]+==\d[\w.]*(; [^:/@]+)?")


def pins() -> list[str]:
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def asked_for() -> list[Requirement]:
    extras = PROJECT["project"]["optional-dependencies"].values()
    groups = [PROJECT["project"]["dependencies"], *extras]
    return [Requirement(line) for group in groups for line in group]


def files_of_the_project_in_the_image() -> list[str]:
    copies = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)
    return [source for sources in copies for source in sources.split()]


def test_a_pin_is_a_name_and_a_version_and_never_an_address() -> None:
    assert [line for line in pins() if not PIN.fullmatch(line)] == []


def test_no_package_is_pinned_twice() -> None:
    names = [canonicalize_name(Requirement(line).name) for line in pins()]

    assert len(names) == len(set(names))


@pytest.mark.parametrize("asked", asked_for(), ids=lambda asked: asked.name)
def test_each_dependency_is_pinned_as_it_is_asked_for(
    asked: Requirement,
) -> None:
    (pinned,) = (pin for pin in map(Requirement, pins()) if pin.name == asked.name)

    (exactly,) = pinned.specifier
    assert exactly.version in asked.specifier
    assert pinned.marker == asked.marker


def test_the_image_is_made_from_every_package_of_the_wheel() -> None:
    packages = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]

    assert set(packages) <= set(files_of_the_project_in_the_image())


def test_the_builder_is_not_sent_the_tools_of_development() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()

    # The last line that matches a file is the one that counts.
    assert lines.index("worker/devtools") > lines.index("!worker")
    assert not [line for line in lines if line.startswith("!worker/")]
    assert (ROOT / "worker" / "devtools").is_dir()


def test_the_builder_is_sent_what_it_copies_and_nothing_else() -> None:
    everything, *rest = [
        line
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line and not line.startswith("#")
    ]

    assert everything == "*"
    assert {line[1:] for line in rest if line.startswith("!")} == set(
        files_of_the_project_in_the_image()
    )
    assert all((ROOT / name).exists() for name in files_of_the_project_in_the_image())


def test_the_image_runs_the_command_as_a_user_other_than_root() -> None:
    (command,) = PROJECT["project"]["scripts"]

    assert f'\nENTRYPOINT ["{command}"]\n' in DOCKERFILE
    assert re.search(r"^USER [1-9][0-9]*:[1-9][0-9]*$", DOCKERFILE, re.MULTILINE)


def test_the_compose_file_sets_only_what_the_settings_know() -> None:
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    named = set(re.findall(rf"^ +({PREFIX}\w+):", COMPOSE, re.MULTILINE))

    assert named
    assert named <= known


def test_a_stopping_worker_has_more_time_than_its_drain_may_take() -> None:
    (grace_seconds,) = re.findall(r"stop_grace_period: (\d+)s", COMPOSE)
    (drain_seconds,) = re.findall(rf"{PREFIX}DRAIN_SECONDS: (\d+)", COMPOSE)

    assert float(grace_seconds) > float(drain_seconds)


def test_the_worker_is_given_the_replica_set_of_the_health_check() -> None:
    (host, replica_set) = re.findall(r"mongodb://([\w:]+)/\?replicaSet=(\w+)", COMPOSE)[0]

    assert f'_id: "{replica_set}"' in COMPOSE
    assert f'host: "{host}"' in COMPOSE
    assert f"--replSet, {replica_set}," in COMPOSE


def test_no_port_is_open_to_other_machines() -> None:
    published = re.findall(r"^ +- (\S+:\d+:\d+)$", COMPOSE, re.MULTILINE)

    assert len(published) == 3
    assert all(port.startswith("127.0.0.1:") for port in published)
