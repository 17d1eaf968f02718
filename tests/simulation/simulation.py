"""One world from beginning to end: the plan is carried out, then the facts are audited.

Once the last fault is over, every request must be settled within SETTLE_SECONDS_MAX, without any
help. Then the workers are stopped gracefully.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from tests.simulation.auditor import audit
from tests.simulation.evidence import Fact, Poisonous
from tests.simulation.faults import Targets, inject
from tests.simulation.loop import Livelock
from tests.simulation.mongod import Mongod
from tests.simulation.plan import Plan, plan_of
from tests.simulation.process import Parts, Process, simulated_workers
from tests.simulation.rabbit import Rabbit
from tests.simulation.roundtrip import LATE_SECONDS_MAX
from tests.simulation.workload import Edit
from tests.simulation.world import CLOCK_START, FaultRates, Tracer, World

SETTLE_SECONDS_MAX: Final = 1000
"""More than the longest timeouts one after another, so that passing is no matter of luck."""
STOP_SECONDS_MAX: Final = 60
"""More than the drain time, and closing the connections after it."""
RESTART_SECONDS: Final = 1
EDIT_RETRY_SECONDS: Final = 0.05


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one seed."""

    seed: int
    findings: list[str]
    incidents: Counter[str]
    journal: list[Fact]
    steps: int


class Simulation:
    """A world with its servers and its workers."""

    def __init__(
        self, seed: int, parts: Parts, trace: Tracer | None = None, plan: Plan | None = None
    ) -> None:
        self._plan = plan or plan_of(seed)
        self._parts = parts
        self._world = World(seed, trace)
        self._mongod = Mongod(self._world, self._plan.movies)
        self._rabbit = Rabbit(
            self._world,
            self._plan.consumer_timeout_seconds,
            nack_is_failure=self._plan.nack_is_failure,
        )
        self._processes: list[Process] = []
        self._starts: Counter[int] = Counter()
        self._is_over = False
        self._failures: list[str] = []

    def run(self, seed: int) -> Result:
        """Run it to its end, and audit it."""
        random.seed(seed)  # For the jitter of tenacity and of the worker's backoff.
        loop = self._world.loop
        try:
            loop.run_until_complete(self._live())
        except Livelock as failure:
            self._failures.append(f"{self._rabbit.unsettled} are never settled: {failure}")
        finally:
            loop.run_until_complete(self._end())
        findings = [*self._failures, *audit(self._world.journal, CLOCK_START)]
        return Result(
            seed, findings, self._world.incidents, self._world.journal, self._world.loop.steps
        )

    async def _live(self) -> None:
        world, plan = self._world, self._plan
        targets = Targets(world, self._mongod, self._rabbit, self._processes)
        world.fault_rates = plan.fault_rates
        world.poison = plan.poison
        for request_id in plan.poison:
            world.record(Poisonous(world.now_seconds, request_id))
        for number in range(plan.workers):
            self._processes.append(self._start(number))
        for request in plan.requests:
            world.after(request.at_seconds, self._rabbit.send, request.body, request.reply_to)
        for edit in plan.edits:
            world.after(edit.at_seconds, self._edit, edit)
        for fault in plan.faults:
            world.after(fault.at_seconds, inject, fault, targets)
        await asyncio.sleep(plan.end_seconds)
        world.fault_rates = FaultRates()
        world.trace("world", "faults end")
        await self._until_all_settled()
        self._is_over = True
        for process in self._processes:
            process.stop()
        if not await self._all_end(STOP_SECONDS_MAX):
            self._failures.append("a worker did not stop")
        # A command that was delayed on the network may still do harm after the workers stopped.
        await asyncio.sleep(LATE_SECONDS_MAX)

    async def _all_end(self, seconds_max: float) -> bool:
        running = [process.running for process in self._processes]
        _, still_running = await asyncio.wait(running, timeout=seconds_max)
        return not still_running

    async def _end(self) -> None:
        """End every task, so that none is left to complain about its sudden end."""
        self._is_over = True
        self._world.fault_rates = FaultRates()
        for process in self._processes:
            process.kill()
        await self._all_end(STOP_SECONDS_MAX)

    async def _until_all_settled(self) -> None:
        all_settled = asyncio.Event()

        def look() -> None:
            if not self._rabbit.unsettled:
                all_settled.set()

        self._rabbit.on_settled = look
        look()
        try:
            async with asyncio.timeout(SETTLE_SECONDS_MAX):
                await all_settled.wait()
        except TimeoutError:
            self._failures.append(
                f"{self._rabbit.unsettled} are never settled within {SETTLE_SECONDS_MAX} s"
            )

    def _start(self, number: int) -> Process:
        self._starts[number] += 1
        name = f"worker {number}.{self._starts[number]}"
        process = Process(self._world, self._mongod, self._rabbit, name, self._parts)
        process.start(self._plan.batch_size, lambda process: self._on_end(number, process))
        return process

    def _on_end(self, number: int, process: Process) -> None:
        if process.failure is not None:
            self._failures.append(f"{process.name} failed: {process.failure!r}")
        if not self._is_over:
            self._world.after(RESTART_SECONDS, self._restart, number)

    def _restart(self, number: int) -> None:
        if not self._is_over:
            self._processes[number] = self._start(number)

    def _edit(self, edit: Edit) -> None:
        if not self._mongod.replicas.is_up:
            self._mongod.replicas.when_up(lambda: self._edit(edit))
        elif self._mongod.write(edit.key, edit.change):
            self._world.incident(f"edit: {edit.what}")
        else:
            self._world.after(EDIT_RETRY_SECONDS, self._edit, edit)


def simulate(
    seed: int, parts: Parts | None = None, trace: Tracer | None = None, plan: Plan | None = None
) -> Result:
    """Run the world of one seed; ``trace`` is called with every step of it.

    With a plan given, the seed decides only the order of callbacks.
    """
    parts = parts or Parts()
    with simulated_workers(parts, is_traced=trace is not None):
        return Simulation(seed, parts, trace, plan).run(seed)


def simulate_many(seeds: Iterable[int], parts: Parts | None = None) -> Iterable[Result]:
    """Run one world after another."""
    parts = parts or Parts()
    with simulated_workers(parts, is_traced=False):
        for seed in seeds:
            yield Simulation(seed, parts).run(seed)
