"""One world from its beginning to its end: the plan is carried out, and then the auditor comes.

When the last fault is over, everything must come to rest within SETTLE_SECONDS_MAX: each request
settled, though nobody helps. Then the workers are stopped in good order.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from tests.simulation.auditor import audit
from tests.simulation.evidence import Fact, Poisonous
from tests.simulation.faults import Targets, strike
from tests.simulation.loop import GoesInCircles
from tests.simulation.mongod import Mongod
from tests.simulation.plan import Plan, plan_of
from tests.simulation.process import Parts, Process, simulated_workers
from tests.simulation.rabbit import Rabbit
from tests.simulation.roundtrip import LATE_SECONDS_MAX
from tests.simulation.workload import Edit
from tests.simulation.world import CLOCK_START, Weather, World

SETTLE_SECONDS_MAX: Final = 1000
"""Above the longest timeouts of all, one after another; liveness is not a matter of luck."""
STOP_SECONDS_MAX: Final = 60
"""Above the drain time, and what closing the connections may take after it."""
RESTART_SECONDS: Final = 1
EDIT_RETRY_SECONDS: Final = 0.05

Teller = Callable[[float, str, str], None]


@dataclass(frozen=True, slots=True)
class Story:
    """What a seed came to."""

    seed: int
    findings: list[str]
    happened: Counter[str]
    diary: list[Fact]
    steps: int


class Simulation:
    """A world with its servers and its workers."""

    def __init__(
        self, seed: int, parts: Parts, tell: Teller | None = None, plan: Plan | None = None
    ) -> None:
        self._plan = plan or plan_of(seed)
        self._parts = parts
        self._world = World(seed, tell)
        self._mongod = Mongod(self._world, self._plan.movies)
        self._rabbit = Rabbit(
            self._world,
            self._plan.consumer_timeout_seconds,
            nack_is_failure=self._plan.nack_is_failure,
        )
        self._processes: list[Process] = []
        self._lives: Counter[int] = Counter()
        self._is_over = False
        self._failures: list[str] = []

    def run(self, seed: int) -> Story:
        """Live through it."""
        random.seed(seed)  # For the jitter of tenacity and of the worker's backoff.
        loop = self._world.loop
        try:
            loop.run_until_complete(self._live())
        except GoesInCircles as failure:
            self._failures.append(f"{self._rabbit.unsettled} are never settled: {failure}")
        finally:
            loop.run_until_complete(self._end())
        findings = [*self._failures, *audit(self._world.diary, CLOCK_START)]
        return Story(
            seed, findings, self._world.happened, self._world.diary, self._world.loop.steps
        )

    async def _live(self) -> None:
        world, plan = self._world, self._plan
        targets = Targets(world, self._mongod, self._rabbit, self._processes)
        world.weather = plan.weather
        world.poison = plan.poison
        for request_id in plan.poison:
            world.note(Poisonous(world.now_seconds, request_id))
        for number in range(plan.workers):
            self._processes.append(self._start(number))
        for sending in plan.sendings:
            world.after(sending.at_seconds, self._rabbit.send, sending.body, sending.reply_to)
        for edit in plan.edits:
            world.after(edit.at_seconds, self._edit, edit)
        for fault in plan.faults:
            world.after(fault.at_seconds, strike, fault, targets)
        await asyncio.sleep(plan.end_seconds)
        world.weather = Weather()
        world.say("world", "nothing goes wrong any more")
        await self._come_to_rest()
        self._is_over = True
        for process in self._processes:
            process.stop()
        if not await self._all_end(STOP_SECONDS_MAX):
            self._failures.append("a worker did not stop")
        # What got stuck on its way may still do harm when everybody has gone home.
        await asyncio.sleep(LATE_SECONDS_MAX)

    async def _all_end(self, seconds_max: float) -> bool:
        running = [process.running for process in self._processes]
        _, still_running = await asyncio.wait(running, timeout=seconds_max)
        return not still_running

    async def _end(self) -> None:
        """Nothing is left behind: neither a task nor what it would say about its sudden end."""
        self._is_over = True
        self._world.weather = Weather()
        for process in self._processes:
            process.kill()
        await self._all_end(STOP_SECONDS_MAX)

    async def _come_to_rest(self) -> None:
        at_rest = asyncio.Event()

        def look() -> None:
            if not self._rabbit.unsettled:
                at_rest.set()

        self._rabbit.on_settled = look
        look()
        try:
            async with asyncio.timeout(SETTLE_SECONDS_MAX):
                await at_rest.wait()
        except TimeoutError:
            self._failures.append(
                f"{self._rabbit.unsettled} are never settled within {SETTLE_SECONDS_MAX} s"
            )

    def _start(self, number: int) -> Process:
        self._lives[number] += 1
        name = f"worker {number}.{self._lives[number]}"
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
            self._world.mishap(f"edit: {edit.what}")
        else:
            self._world.after(EDIT_RETRY_SECONDS, self._edit, edit)


def simulate(
    seed: int, parts: Parts | None = None, tell: Teller | None = None, plan: Plan | None = None
) -> Story:
    """Live through the world of one seed; ``tell`` hears every step of it.

    With a plan of its own, the seed only decides whose turn it is.
    """
    parts = parts or Parts()
    with simulated_workers(parts, is_told=tell is not None):
        return Simulation(seed, parts, tell, plan).run(seed)


def simulate_many(seeds: Iterable[int], parts: Parts | None = None) -> Iterable[Story]:
    """Live through one world after another."""
    parts = parts or Parts()
    with simulated_workers(parts, is_told=False):
        for seed in seeds:
            yield Simulation(seed, parts).run(seed)
