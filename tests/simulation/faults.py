"""Fault injection: one function for each kind of fault.

These faults come from outside, at a time that the plan sets; faults of single messages are drawn
from the world's ``FaultRates`` instead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tests.simulation.mongod import Mongod
from tests.simulation.plan import Fault, FaultKind
from tests.simulation.process import Process
from tests.simulation.rabbit import Rabbit
from tests.simulation.world import World


@dataclass(frozen=True, slots=True)
class Targets:
    """Everything that a fault may affect. The processes are those that run at the moment."""

    world: World
    mongod: Mongod
    rabbit: Rabbit
    processes: Sequence[Process]


def inject(fault: Fault, targets: Targets) -> None:
    """Start a fault; it ends by itself."""
    targets.world.incident(f"fault: {fault.kind}")
    _INJECTORS[fault.kind](fault, targets)


def _crash(fault: Fault, targets: Targets) -> None:
    targets.processes[fault.worker].kill()


def _crash_later(fault: Fault, targets: Targets) -> None:
    targets.processes[fault.worker].crash_countdown = fault.count


def _pause(fault: Fault, targets: Targets) -> None:
    targets.processes[fault.worker].pause(fault.seconds)


def _stop(fault: Fault, targets: Targets) -> None:
    targets.processes[fault.worker].stop()


def _lose_connection(fault: Fault, targets: Targets) -> None:
    """Lose the connection for requests, the one for events, or both."""
    connections = targets.processes[fault.worker].connections()
    for connection in (connections[:1], connections[1:], connections)[fault.count % 3]:
        connection.lose("connection reset")


def _close_channel(fault: Fault, targets: Targets) -> None:
    connections = targets.processes[fault.worker].connections()
    for connection in (connections[:1], connections[1:])[fault.count % 2]:
        connection.close_with_error("INTERNAL_ERROR")


def _cancel_consumer(fault: Fault, targets: Targets) -> None:
    for connection in targets.processes[fault.worker].connections()[:1]:
        connection.cancel_consumer()


def _stop_broker(fault: Fault, targets: Targets) -> None:
    targets.rabbit.is_up = False
    for process in targets.processes:
        for connection in process.connections():
            connection.lose("broker down")
    targets.world.after(fault.seconds, targets.rabbit.come_up)


def _block_publishers(fault: Fault, targets: Targets) -> None:
    targets.rabbit.block()
    targets.world.after(fault.seconds, targets.rabbit.unblock)


def _step_down(fault: Fault, targets: Targets) -> None:
    targets.mongod.step_down()
    targets.world.after(fault.seconds, targets.mongod.replicas.become_primary)


def _slow_down(fault: Fault, targets: Targets) -> None:
    targets.mongod.replicas.slow_down(fault.seconds)


_INJECTORS: Final[Mapping[FaultKind, Callable[[Fault, Targets], None]]] = {
    "crash": _crash,
    "crash after some messages": _crash_later,
    "pause": _pause,
    "stop": _stop,
    "connection lost": _lose_connection,
    "channel closed": _close_channel,
    "consumer cancelled": _cancel_consumer,
    "broker down": _stop_broker,
    "publishers blocked": _block_publishers,
    "election": _step_down,
    "no primary": _step_down,
    "slow replication": _slow_down,
}
