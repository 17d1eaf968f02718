"""A private RabbitMQ node.

Everything that a package, a user or another node on the machine could have configured is
replaced: the environment, every configuration file, the Erlang cookie, the port mapper (``epmd``).
All of it works with RabbitMQ 3.10 as with 4.x.

Refuses to know which queues are in the node, and no AMQP is spoken here beyond a greeting.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from worker.devtools.servers import programs
from worker.devtools.servers.ports import LOOPBACK, accepts_connections, free_ports, require_free
from worker.devtools.servers.process import ServerProcess, output_of

NODE_NAME: Final = "embedded@localhost"
"""Part of where a node keeps its data, so a kept folder needs the same name every time. No other
node can have it too, because each has a port mapper of its own."""

START_TIMEOUT_SECONDS: Final = 90
"""A start takes 3 to 6 s on two cores, and longer on a loaded machine."""
EPMD_START_TIMEOUT_SECONDS: Final = 10
STOP_GRACE_SECONDS: Final = 30
GREETING_TIMEOUT_SECONDS: Final = 5
CTL_TIMEOUT_SECONDS: Final = 60

AMQP_GREETING: Final = b"AMQP\x00\x00\x09\x01"
METHOD_FRAME: Final = 1
CONNECTION_START: Final = b"\x00\x0a\x00\x0a"

LOOPBACK_DISTRIBUTION: Final = "-kernel inet_dist_use_interface {127,0,0,1}"
"""Makes Erlang's distribution, too, listen on the loopback interface only."""


class EmbeddedRabbit:
    """A node at 127.0.0.1 that keeps its data under ``folder``.

    It listens on ``port``, or on a free one, which stays the same for the life of the object.
    ``config`` holds further lines of ``rabbitmq.conf``, for example
    ``{"consumer_timeout": "60000"}``; they are read at every start.
    """

    def __init__(
        self, folder: Path, *, port: int | None = None, config: Mapping[str, str] | None = None
    ) -> None:
        amqp_port, self._epmd_port = free_ports(2)
        self.port = port or amqp_port
        self.config = dict(config or {})
        self._folder = folder.absolute()
        self._node = ServerProcess("rabbitmq", self._folder)
        self._epmd = ServerProcess("epmd", self._folder)

    @property
    def url(self) -> str:
        """The AMQP address, with the user that RabbitMQ creates for local use."""
        return f"amqp://guest:guest@{LOOPBACK}:{self.port}/"

    @property
    def running(self) -> bool:
        """Whether the node was started and has not ended."""
        return self._node.running

    @property
    def pids(self) -> tuple[int, ...]:
        """The process ids of the node and of its port mapper, as far as they are running."""
        return tuple(pid for pid in (self._node.pid, self._epmd.pid) if pid is not None)

    async def start(self) -> None:
        """Start the node, with the data it had, unless it is running; returns when it greets.

        Raises MissingServer without RabbitMQ, otherwise EmbeddedServerError with the end of
        the log; nothing is left running then.
        """
        if self.running:
            return
        server = programs.rabbitmq_server()
        require_free(self.port, "rabbitmq")
        self._write_files()
        try:
            await self._start_epmd()
            await self._node.start((server,), self._environment(), work_in=self._folder)
            await self._node.until(self._greets, START_TIMEOUT_SECONDS)
        except BaseException:
            await self.kill()
            raise

    async def stop(self) -> None:
        """Let the node shut down in order, then kill its port mapper, which stores nothing."""
        try:
            await self._node.terminate(STOP_GRACE_SECONDS)
        finally:
            await self._epmd.kill()

    async def kill(self) -> None:
        """End the node as a crash would, and its port mapper with it."""
        try:
            await self._node.kill()
        finally:
            await self._epmd.kill()

    async def ctl(self, *arguments: str) -> str:
        """Run ``rabbitmqctl`` against the node and return what it prints, without headings.

        Takes about a second. Raises EmbeddedServerError with its output when it fails.
        """
        program = programs.rabbitmq_server().with_name("rabbitmqctl")
        command: tuple[Path | str, ...] = (program, "--quiet", *arguments)
        return await output_of(command, self._environment(), self._folder, CTL_TIMEOUT_SECONDS)

    async def _start_epmd(self) -> None:
        # Erlang would start a port mapper by itself, but as a daemon, which stays behind when the
        # node has gone. As a child in the foreground it is ended like any server.
        if self._epmd.running:
            return
        require_free(self._epmd_port, "epmd")
        command = (programs.epmd(), "-port", str(self._epmd_port), "-address", LOOPBACK)
        await self._epmd.start(command, programs.environment())
        await self._epmd.until(
            lambda: accepts_connections(self._epmd_port), EPMD_START_TIMEOUT_SECONDS
        )

    async def _greets(self) -> bool:
        """Whether the node answers AMQP's greeting with Connection.Start."""
        try:
            reader, writer = await asyncio.open_connection(LOOPBACK, self.port)
        except OSError:
            return False
        try:
            writer.write(AMQP_GREETING)
            async with asyncio.timeout(GREETING_TIMEOUT_SECONDS):
                # A frame has a type, two bytes of channel and four of size before its method.
                frame = await reader.readexactly(11)
        except (OSError, asyncio.IncompleteReadError):
            return False
        finally:
            writer.close()
        return frame[0] == METHOD_FRAME and frame[7:] == CONNECTION_START

    def _write_files(self) -> None:
        home = self._folder / "home"
        home.mkdir(parents=True, exist_ok=True)
        cookie = home / ".erlang.cookie"
        if not cookie.exists():
            # Erlang refuses a cookie that others may read. That it is written here, and not by
            # the first of node and ``rabbitmqctl`` to come, leaves no moment when they differ.
            cookie.touch(mode=0o600)
            cookie.write_text(secrets.token_hex(20))
        # The node looks into its plugin folder for the applications whose configuration it has
        # to understand, and loads every one. Only their names matter there, so a folder that
        # holds nothing but the name of RabbitMQ itself saves it a fifth of its start.
        (self._folder / "plugins" / "rabbit").mkdir(parents=True, exist_ok=True)
        (self._folder / "enabled_plugins").write_text("[].\n")
        lines = {"listeners.tcp.1": f"{LOOPBACK}:{self.port}", **self.config}
        text = "".join(f"{key} = {value}\n" for key, value in lines.items())
        (self._folder / "rabbitmq.conf").write_text(text)

    def _environment(self) -> dict[str, str]:
        """The environment of the node and of ``rabbitmqctl``, which both work in our folder."""
        return programs.environment() | {
            "HOME": str(self._folder / "home"),
            # Ours is running already; without this, every named Erlang node (this one, what its
            # epmd monitor starts once a minute, ``rabbitmqctl``) tries to start another.
            "ERL_AFLAGS": "-start_epmd false",
            "ERL_CRASH_DUMP_SECONDS": "0",
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": LOOPBACK,
            "RABBITMQ_NODENAME": NODE_NAME,
            # Having its name from the start, the node skips starting two more Erlang machines
            # that look for a node with the same name.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"-sname {NODE_NAME} {LOOPBACK_DISTRIBUTION}",
            "RABBITMQ_CTL_ERL_ARGS": f"+fnu {LOOPBACK_DISTRIBUTION}",
            # The script then becomes the node instead of waiting for it, so that signals, and
            # news of its end, need no shell in between. The official container image does this.
            "RUNNING_UNDER_SYSTEMD": "true",
            # Names relative to the folder are safe from what its own path may hold: a colon would
            # separate plugin folders, a bracket would be a pattern of configuration files. Some of
            # these do not exist, which is the point: the ones in /etc are not read then.
            # RabbitMQ 4.0 stops at its start unless this one is absolute; it is no pattern.
            "RABBITMQ_MNESIA_BASE": str(self._folder / "data"),
            "RABBITMQ_LOG_BASE": ".",
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_LOG": "info,-color",
            "RABBITMQ_PID_FILE": "rabbitmq.pid",
            "RABBITMQ_CONF_ENV_FILE": "rabbitmq-env.conf",
            "RABBITMQ_CONFIG_FILE": "rabbitmq.conf",
            "RABBITMQ_CONFIG_FILES": "conf.d/*.conf",
            "RABBITMQ_ADVANCED_CONFIG_FILE": "advanced.config",
            "RABBITMQ_ENABLED_PLUGINS_FILE": "enabled_plugins",
            "RABBITMQ_PLUGINS_DIR": "plugins",
        }
