"""A server process ends with all its children, and its program is found."""

from __future__ import annotations

import asyncio
import fcntl
import os
from pathlib import Path
from typing import Final

import pytest

from worker.devtools.servers import process, programs
from worker.devtools.servers.process import ServerProcess, poll
from worker.errors import EmbeddedServerError, MissingServer

DEADLINE_SECONDS: Final = 30


def in_use(folder: Path) -> list[Path]:
    """The logs below the folder that any process of a server has open."""
    locked = []
    for path in folder.rglob("*.log"):
        with path.open("ab") as log:
            try:
                fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                locked.append(path)
    return locked


async def until_nothing_runs_in(folder: Path, seconds: float = 5) -> None:
    async def nothing_runs() -> bool:
        return not in_use(folder)

    await poll(nothing_runs, seconds)


async def shell(folder: Path, script: str) -> ServerProcess:
    server = ServerProcess("shell", folder)
    await server.start(("/bin/sh", "-c", script), {"PATH": os.environ["PATH"]})
    return server


async def ignoring_sigterm(folder: Path) -> ServerProcess:
    server = await shell(folder, "trap '' TERM; echo up; while :; do sleep 1; done")

    async def is_up() -> bool:
        return b"up" in server.log.read_bytes()

    await server.until(is_up, DEADLINE_SECONDS)
    return server


async def test_a_server_ignoring_sigterm_is_killed_with_its_children(
    tmp_path: Path,
) -> None:
    server = await ignoring_sigterm(tmp_path)
    await server.terminate(0.1)
    assert not server.running
    await until_nothing_runs_in(tmp_path)


async def test_a_cancelled_stop_kills_at_once(tmp_path: Path) -> None:
    server = await ignoring_sigterm(tmp_path)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await server.terminate(DEADLINE_SECONDS)
    await until_nothing_runs_in(tmp_path)


async def test_a_failed_start_is_reported_with_the_end_of_the_log(
    tmp_path: Path,
) -> None:
    async def never() -> bool:
        return False

    earlier = await shell(tmp_path, "echo yesterday")
    with pytest.raises(EmbeddedServerError, match="yesterday"):
        await earlier.until(never, DEADLINE_SECONDS)
    await earlier.kill()
    server = await shell(tmp_path, "echo no room on this disk; exit 3")
    with pytest.raises(EmbeddedServerError, match=r"shell ended .*\n.*no room") as error:
        await server.until(never, DEADLINE_SECONDS)
    assert "yesterday" not in str(error.value)
    await server.kill()


async def test_a_folder_has_no_two_servers_of_one_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "LOCK_TIMEOUT_SECONDS", 0.1)
    server = await shell(tmp_path, "sleep 60")
    with pytest.raises(EmbeddedServerError, match="in use"):
        await shell(tmp_path, "sleep 60")
    await server.kill()


def a_program(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_a_mongod_on_the_path_comes_before_the_wheel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(programs, "search_path", lambda: str(tmp_path))
    assert programs.mongod().parts[-4:] == ("fiftyone", "db", "bin", "mongod")
    assert a_program(tmp_path / "mongod") == programs.mongod()


def test_the_distributions_wrapper_is_never_used_as_rabbitmq(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrapper = a_program(tmp_path / "lib" / "rabbitmq-script-wrapper")
    (tmp_path / "rabbitmq-server").symlink_to(wrapper)
    monkeypatch.setattr(programs, "search_path", lambda: str(tmp_path))
    monkeypatch.setattr(programs, "RABBITMQ_SERVERS", ())
    with pytest.raises(MissingServer):
        programs.rabbitmq_server()
    (tmp_path / "rabbitmq-server").unlink()
    assert a_program(tmp_path / "rabbitmq-server") == programs.rabbitmq_server()
