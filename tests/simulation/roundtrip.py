"""One command to MongoDB and its reply, over a network that may lose or delay either of them.

After a failure the client knows nothing: the command may have run, or may run later.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Generic, Protocol, TypeVar

from pymongo.errors import AutoReconnect, NetworkTimeout, PyMongoError, ServerSelectionTimeoutError

from tests.simulation.mongod import Mongod
from tests.simulation.world import World

OPERATION_TIMEOUT_SECONDS: Final = 10
SELECTION_TIMEOUT_SECONDS: Final = 5
LATE_SECONDS_MAX: Final = 90
"""A delayed command may still arrive long after its transaction has expired."""
RESET_SHARE: Final = 0.7
"""The share of failures that are noticed at once; the others take the whole timeout."""

T = TypeVar("T")


class Client(Protocol):
    """The process that sends the command."""

    @property
    def name(self) -> str: ...
    @property
    def is_dead(self) -> bool: ...
    def on_send(self) -> None:
        """A message leaves the process."""

    def kill(self) -> None:
        """End the process at once."""


class RoundTrip(Generic[T]):
    """Sends a command as soon as it is created; ``answer`` is what the client learns."""

    def __init__(
        self, world: World, mongod: Mongod, client: Client, operation: Callable[[], T]
    ) -> None:
        self.answer: asyncio.Future[T] = world.loop.create_future()
        self._world = world
        self._mongod = mongod
        self._operation = operation
        self._is_given_up = False
        self._send(client)

    def _send(self, client: Client) -> None:
        if client.is_dead:
            self.answer.cancel()
            return
        client.on_send()
        world, rates = self._world, self._world.fault_rates
        delay = world.latency_seconds()
        if world.comes(rates.command_lost):
            world.incident("command lost")
            self._fail()
            return
        if world.comes(rates.command_late):
            world.incident("command late")
            delay += world.chance.uniform(OPERATION_TIMEOUT_SECONDS, LATE_SECONDS_MAX)
            world.after(OPERATION_TIMEOUT_SECONDS, self._time_out)
        world.after(delay, self._arrive)

    def _arrive(self) -> None:
        """Run the command; if there is no primary, the driver waits for one for a while."""
        if self._is_given_up:
            return
        if not self._mongod.replicas.is_up:
            self._mongod.replicas.when_up(self._arrive)
            self._world.after(SELECTION_TIMEOUT_SECONDS, self._find_no_primary)
            return
        try:
            result = self._operation()
        except PyMongoError as failure:
            self._reply(failure, None)
        else:
            self._done(result)

    def _find_no_primary(self) -> None:
        if not self._mongod.replicas.is_up:
            self._is_given_up = True
            self._world.incident("no primary")
            self._finish(ServerSelectionTimeoutError("no primary"), None)

    def _done(self, result: T) -> None:
        self._reply(None, result)

    def _reply(self, failure: PyMongoError | None, result: T | None) -> None:
        if self._world.comes(self._world.fault_rates.reply_lost):
            self._world.incident("reply lost")
            self._fail()
        else:
            self._world.after(self._world.latency_seconds(), self._finish, failure, result)

    def _fail(self) -> None:
        if self._world.comes(RESET_SHARE):
            self._world.after(
                self._world.latency_seconds(),
                self._finish,
                AutoReconnect("connection reset"),
                None,
            )
        else:
            self._world.after(OPERATION_TIMEOUT_SECONDS, self._time_out)

    def _time_out(self) -> None:
        self._finish(NetworkTimeout("timed out"), None)

    def _finish(self, failure: PyMongoError | None, result: T | None) -> None:
        if self.answer.done():
            return
        if failure is None:
            self.answer.set_result(result)  # type: ignore[arg-type]  # None only for a failure.
        else:
            self.answer.set_exception(failure)


class MajorityRoundTrip(RoundTrip[int]):
    """A write, answered once a majority has the log up to the length the operation returns."""

    def _done(self, result: int) -> None:
        self._world.after(OPERATION_TIMEOUT_SECONDS, self._time_out)
        self._mongod.replicas.when_majority_has(
            result, lambda failure: self._reply(failure, result)
        )
