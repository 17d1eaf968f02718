"""A private MongoDB replica set, of one member or of several.

Transactions need a replica set, so even one member is one. Apart from ``store``, only this module
connects to MongoDB, and only to administer it. Refuses to know what is stored there.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import OperationFailure, PyMongoError

from worker.devtools.servers import programs
from worker.devtools.servers.ports import LOOPBACK, accepts_connections, free_ports, require_free
from worker.devtools.servers.process import ServerProcess, poll, together
from worker.errors import EmbeddedServerError

Document = dict[str, object]

START_TIMEOUT_SECONDS: Final = 30
"""A mongod answers within a second of its start; a loaded machine takes longer."""
PRIMARY_TIMEOUT_SECONDS: Final = 60
"""A set elects within a few seconds; members without data first copy what the primary has."""
STOP_GRACE_SECONDS: Final = 20

NOT_YET_INITIALIZED: Final = 94
"""MongoDB's error code for a member that has no configuration."""
PRIMARY: Final = 1
SECONDARY: Final = 2
"""The states of members, as ``replSetGetStatus`` numbers them."""

OPTIONS: Final = (
    *("--bind_ip", LOOPBACK),
    # The name of a Unix socket may have about 100 bytes, which a temporary folder easily exceeds.
    "--nounixsocket",
    "--quiet",
    # Half of the machine's memory, the default, is too much beside a broker, a benchmark and two
    # more members; half a gigabyte holds the ledger of several million requests.
    *("--wiredTigerCacheSizeGB", "0.5"),
    # A twentieth of the free disk, the default, is too much for a demo; this is several
    # hundred thousand commits, more than a member misses while it is down.
    *("--oplogSize", "512"),
    # Diagnostic data would be written every second, and nobody reads it here.
    *("--setParameter", "diagnosticDataCollectionEnabled=false"),
    # After SIGTERM a primary waits up to 15 s for a successor, which stopping all members at
    # once can never provide.
    *("--setParameter", "shutdownTimeoutMillisForSignaledShutdown=100"),
)
"""What every mongod is started with, besides its address and its data."""

SET_SETTINGS: Final[Document] = {"electionTimeoutMillis": 2000, "heartbeatIntervalMillis": 500}
"""A failover takes about 3 s with these, instead of the 12 s of MongoDB's defaults. A lower timeout
would make busy test machines hold elections without need."""


class MongoMember:
    """One mongod of the set; it can be stopped, killed and started again by itself."""

    def __init__(
        self, folder: Path, port: int, replica_set: str, parameters: Mapping[str, str]
    ) -> None:
        self.port = port
        self.options: Sequence[str] = ()
        self.admin_options: Mapping[str, Any] = {}
        self._replica_set = replica_set
        self._parameters = [f"--setParameter={name}={value}" for name, value in parameters.items()]
        self._data = folder / "data"
        self._process = ServerProcess("mongod", folder)

    @property
    def address(self) -> str:
        """Host and port, as the set's configuration names this member."""
        return f"{LOOPBACK}:{self.port}"

    @property
    def running(self) -> bool:
        """Whether this member was started and has not ended."""
        return self._process.running

    @property
    def pid(self) -> int | None:
        """The process id of this member, or None when it is not running."""
        return self._process.pid

    async def start(self) -> None:
        """Start it, with the data it had, unless it is running; returns when it answers.

        It need not have joined the set by then: see ``EmbeddedMongo.until_writable``. Raises
        MissingServer, and EmbeddedServerError with the end of its log.
        """
        if self.running:
            return
        program = programs.mongod()
        require_free(self.port, "mongod")
        self._data.mkdir(parents=True, exist_ok=True)
        command = (program, "--replSet", self._replica_set, "--port", str(self.port))
        try:
            await self._process.start(
                (
                    *(*command, "--dbpath", self._data),
                    *(*OPTIONS, *self._parameters, *self.options),
                ),
                programs.environment(),
            )
            await self._process.until(lambda: accepts_connections(self.port), START_TIMEOUT_SECONDS)
        except BaseException:
            await self._process.kill()
            raise

    async def stop(self) -> None:
        """Let it shut down in order."""
        await self._process.terminate(STOP_GRACE_SECONDS)

    async def kill(self) -> None:
        """End it as a crash would."""
        await self._process.kill()

    @asynccontextmanager
    async def admin(self) -> AsyncIterator[AsyncDatabase[Document]]:
        """Connect to the ``admin`` database of this member, whatever its state in the set is."""
        async with AsyncMongoClient[Document](
            LOOPBACK,
            self.port,
            directConnection=True,
            serverSelectionTimeoutMS=5000,
            **self.admin_options,
        ) as client:
            yield client["admin"]


class EmbeddedMongo:
    """A replica set at 127.0.0.1, whose members keep their data under ``folder``.

    The first member listens on ``port`` and the others on the ports after it; without one, all get
    free ports, which stay the same for the life of the object. ``parameters`` are server parameters
    beyond the usual ones, for example ``{"enableTestCommands": "1"}`` for fail points.
    """

    def __init__(
        self,
        folder: Path,
        *,
        port: int | None = None,
        replica_set: str = "rs0",
        members: int = 1,
        parameters: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        ports = free_ports(members) if port is None else range(port, port + members)
        self.replica_set = replica_set
        self.members = tuple(
            MongoMember(folder.absolute() / f"member-{index}", member_port, replica_set, parameters)
            for index, member_port in enumerate(ports)
        )

    @property
    def uri(self) -> str:
        """The connection string of the whole set."""
        hosts = ",".join(member.address for member in self.members)
        return f"mongodb://{hosts}/?replicaSet={self.replica_set}"

    @property
    def pids(self) -> tuple[int, ...]:
        """The process ids of the members that are running."""
        return tuple(member.pid for member in self.members if member.pid is not None)

    def secure(self, options: Sequence[str], admin_options: Mapping[str, Any]) -> None:
        """From the next start on, give every mongod further options, such as ``--tlsMode``.

        ``admin_options`` are what a client then needs besides the address, such as a CA file.
        """
        for member in self.members:
            member.options, member.admin_options = options, admin_options

    async def start(self) -> None:
        """Start every member that is not running; returns once the set takes majority writes.

        Raises MissingServer without a mongod, otherwise EmbeddedServerError with the reason;
        no member is left running then.
        """
        try:
            await together(*(member.start() for member in self.members))
            await self._configure()
            await self.until_writable()
        except BaseException:
            await self.kill()
            raise

    async def stop(self) -> None:
        """Stop all members in order."""
        await together(*(member.stop() for member in self.members))

    async def kill(self) -> None:
        """End all members at once, as the loss of a machine would."""
        await together(*(member.kill() for member in self.members))

    async def primary(self) -> int | None:
        """The index of the member that takes writes now, or None during an election."""
        for index, member in enumerate(self.members):
            if member.running and await _is_primary(member):
                return index
        return None

    async def until_writable(self, deadline_seconds: float = PRIMARY_TIMEOUT_SECONDS) -> None:
        """Wait until a primary takes majority writes and all running members follow it.

        A member that is down is not waited for. Raises EmbeddedServerError at the deadline.
        """
        try:
            await poll(self._is_writable, deadline_seconds)
        except TimeoutError:
            raise EmbeddedServerError(
                f"MongoDB had no writable primary within {deadline_seconds:g} s; "
                f"its members are {', '.join(member.address for member in self.members)}"
            ) from None

    async def _is_writable(self) -> bool:
        index = await self.primary()
        if index is None:
            return False
        try:
            async with self.members[index].admin() as admin:
                status = await admin.command("replSetGetStatus")
                states = {member["name"]: member["state"] for member in status["members"]}
                up = [states.get(member.address) for member in self.members if member.running]
                if not all(state in (PRIMARY, SECONDARY) for state in up):
                    return False
                # Being primary is not yet being able to commit; a majority has to say so too.
                concern = {"w": "majority", "wtimeout": 1000}
                await admin.command("appendOplogNote", data={"ready": 1}, writeConcern=concern)
        except PyMongoError:
            return False
        return True

    async def _configure(self) -> None:
        """Make the members a set, once; after that only update ports that changed."""
        hosts = [{"_id": index, "host": m.address} for index, m in enumerate(self.members)]
        try:
            async with self.members[0].admin() as admin:
                try:
                    config = (await admin.command("replSetGetConfig"))["config"]
                except OperationFailure as error:
                    if error.code != NOT_YET_INITIALIZED:
                        raise
                    wanted = {"_id": self.replica_set, "members": hosts, "settings": SET_SETTINGS}
                    await admin.command("replSetInitiate", wanted)
                    return
                if [member["host"] for member in config["members"]] != [h["host"] for h in hosts]:
                    # A kept folder remembers the ports of its last use, none of which is up, so
                    # there is no primary to ask: hence by force.
                    await admin.command("replSetReconfig", {**config, "members": hosts}, force=True)
        except PyMongoError as error:
            raise EmbeddedServerError(f"MongoDB did not become a replica set: {error}") from error


async def _is_primary(member: MongoMember) -> bool:
    try:
        async with member.admin() as admin:
            return bool((await admin.command("hello"))["isWritablePrimary"])
    except PyMongoError:
        return False
