"""A real rabbitmq-server as a private node: own name, ports, cookie, data and port mapper."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from worker.embedded.process import POLL_SECONDS, ServerProcess, free_port
from worker.errors import EmbeddedServerError, MissingServer

START_TIMEOUT_SECONDS: Final = 60
"""A node takes 5 to 13 s on a busy machine of two cores."""

AMQP_HEADER: Final = b"AMQP\x00\x00\x09\x01"
METHOD_FRAME: Final = b"\x01"
"""A server that is ready answers the header with the method Connection.Start."""

SERVER_FOLDERS: Final = (
    # Debian's own scripts; the wrappers in /usr/sbin insist on the user rabbitmq.
    Path("/usr/lib/rabbitmq/bin"),
    Path("/opt/homebrew/opt/rabbitmq/sbin"),
    Path("/usr/local/opt/rabbitmq/sbin"),
)
NO_CONFIGURATION: Final[Mapping[str, str]] = MappingProxyType({})


class EmbeddedRabbit:
    """One node on this machine, with everything it writes below one folder."""

    def __init__(
        self, folder: Path, *, configuration: Mapping[str, str] = NO_CONFIGURATION
    ) -> None:
        self._folder = folder
        self._configuration = configuration
        self._port = free_port()
        self._distribution_port = free_port()
        self._mapper_port = free_port()
        self._server = ServerProcess("rabbitmq-server", folder / "rabbitmq.log")
        self._mapper = ServerProcess("epmd", folder / "epmd.log")

    @property
    def url(self) -> str:
        """Where clients find the node."""
        return f"amqp://guest:guest@127.0.0.1:{self._port}/"

    @property
    def port(self) -> int:
        return self._port

    async def start(self) -> None:
        """Start the node and wait until it takes connections; raises EmbeddedServerError.

        May be called again after ``stop`` or ``kill``: same port, same data.
        """
        scripts, mapper = find_rabbitmq(), find_epmd()
        self._write_configuration()
        # Started here and in the foreground: the node would start one as a daemon that stays.
        await self._mapper.start(
            [str(mapper), "-port", str(self._mapper_port), "-address", "127.0.0.1"]
        )
        await self._server.start([str(scripts / "rabbitmq-server")], self._environment())
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while not await self._answers():
            if not self._server.running or time.monotonic() > deadline:
                failure = self._server.failure("did not start")
                await self.kill()
                raise failure
            await asyncio.sleep(POLL_SECONDS)

    async def stop(self) -> None:
        """End it in an orderly way."""
        await self._server.stop()
        await self._mapper.kill()

    async def kill(self) -> None:
        """SIGKILL, as a crash would do it."""
        await self._server.kill()
        await self._mapper.kill()

    async def ctl(self, *arguments: str) -> str:
        """The output of ``rabbitmqctl`` on this node; raises EmbeddedServerError."""
        process = await asyncio.create_subprocess_exec(
            str(find_rabbitmq() / "rabbitmqctl"), "--quiet", *arguments,
            env={"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", **self._environment()},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        output, _ = await process.communicate()
        if process.returncode:
            raise EmbeddedServerError(f"rabbitmqctl {' '.join(arguments)}: {output.decode()}")
        return output.decode()

    async def _answers(self) -> bool:
        try:
            async with asyncio.timeout(1):
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
                try:
                    writer.write(AMQP_HEADER)
                    return await reader.read(1) == METHOD_FRAME
                finally:
                    writer.close()
        except (OSError, TimeoutError):
            return False

    def _write_configuration(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / "enabled_plugins").write_text("[].")
        settings = {"listeners.tcp.default": f"127.0.0.1:{self._port}", **self._configuration}
        lines = (f"{name} = {value}\n" for name, value in settings.items())
        (self._folder / "rabbitmq.conf").write_text("".join(lines))

    def _environment(self) -> dict[str, str]:
        folder = self._folder.resolve()
        return {
            "HOME": str(folder),  # For the Erlang cookie.
            "ERL_EPMD_PORT": str(self._mapper_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            # Two nodes of one name cannot meet: each asks its own port mapper.
            "RABBITMQ_NODENAME": f"embedded-{self._port}@localhost",
            "RABBITMQ_DIST_PORT": str(self._distribution_port),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
            "RABBITMQ_MNESIA_BASE": str(folder / "data"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_PID_FILE": str(folder / "pid"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": ("-kernel inet_dist_use_interface {127,0,0,1}"),
        }


def find_rabbitmq() -> Path:
    """The folder with rabbitmq-server and rabbitmqctl; raises MissingServer."""
    for folder in SERVER_FOLDERS:
        if (folder / "rabbitmq-server").exists():
            return folder
    if (on_path := shutil.which("rabbitmq-server")) and Path(on_path).parent.name != "sbin":
        return Path(on_path).parent
    if on_path and (Path(on_path).parent.parent / "plugins").is_dir():
        return Path(on_path).parent  # A generic Unix build: sbin beside plugins.
    raise MissingServer(
        "there is no rabbitmq-server: run `apt-get install rabbitmq-server` on Debian or Ubuntu, "
        "`brew install rabbitmq` on macOS"
    )


def find_epmd() -> Path:
    """Erlang's port mapper, which is on the PATH wherever Erlang is; raises MissingServer."""
    if on_path := shutil.which("epmd"):
        return Path(on_path)
    found = sorted(Path("/usr/lib/erlang").glob("erts-*/bin/epmd"))
    if not found:
        raise MissingServer("there is no epmd: install Erlang, which RabbitMQ needs")
    return found[-1]
