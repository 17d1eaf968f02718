"""The event loop: the order is random, and time passes only when nothing is ready."""

from __future__ import annotations

import asyncio
import itertools
import random
from contextvars import copy_context

import pytest

from tests.simulation.loop import OWNER, STEPS_MAX, Livelock, SimulatedLoop


def new_loop(seed: int = 1) -> SimulatedLoop:
    return SimulatedLoop(random.Random(seed).random)  # type: ignore[abstract]


def order_of(seed: int) -> list[int]:
    """The order in which ten ready tasks take three turns each."""
    turns: list[int] = []

    async def take_turns(number: int) -> None:
        for _ in range(3):
            turns.append(number)
            await asyncio.sleep(0)

    async def all_of_them() -> None:
        await asyncio.gather(*(take_turns(number) for number in range(10)))

    new_loop(seed).run_until_complete(all_of_them())
    return turns


def test_the_seed_decides_the_order_of_callbacks() -> None:
    assert order_of(1) == order_of(1)
    assert len({tuple(order_of(seed)) for seed in range(20)}) == 20
    assert sorted(order_of(1)) == sorted([*range(10)] * 3)


def test_time_jumps_to_the_next_timer() -> None:
    loop = new_loop()

    async def sleep_twice() -> list[float]:
        times = []
        for seconds in (3600, 0.5):
            await asyncio.sleep(seconds)
            times.append(loop.time())
        return times

    assert loop.run_until_complete(sleep_twice()) == [3600, 3600.5]


def test_a_cancelled_timer_does_not_fire() -> None:
    loop = new_loop()
    gone_off: list[str] = []

    async def cancel_one() -> None:
        loop.call_later(1, gone_off.append, "cancelled").cancel()
        loop.call_later(2, gone_off.append, "kept")
        await asyncio.sleep(3)

    loop.run_until_complete(cancel_one())
    assert gone_off == ["kept"]


def test_a_timeout_passes_in_simulated_time() -> None:
    async def wait_too_long() -> None:
        async with asyncio.timeout(60):
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        new_loop().run_until_complete(wait_too_long())


def test_a_paused_process_waits_and_then_continues() -> None:
    loop = new_loop()
    ticks: list[float] = []

    async def tick() -> None:
        while True:
            await asyncio.sleep(1)
            ticks.append(loop.time())

    async def pause_it() -> None:
        context = copy_context()
        context.run(OWNER.set, "a process")
        ticking = loop.create_task(tick(), context=context)
        await asyncio.sleep(2.5)
        loop.pause("a process")
        await asyncio.sleep(10)
        loop.resume("a process")
        await asyncio.sleep(1.2)
        ticking.cancel()

    loop.run_until_complete(pause_it())
    assert ticks == [1, 2, 12.5, 13.5]


def test_a_livelock_is_detected() -> None:
    async def spin() -> None:
        for _ in itertools.count():
            await asyncio.sleep(0)

    loop = new_loop()
    with pytest.raises(Livelock):
        loop.run_until_complete(spin())
    assert loop.steps > STEPS_MAX


def test_tasks_hash_alike_in_every_run() -> None:
    async def hashes() -> list[int]:
        tasks = [asyncio.create_task(asyncio.sleep(0)) for _ in range(5)]
        await asyncio.gather(*tasks)
        return [hash(task) for task in tasks]

    assert new_loop().run_until_complete(hashes()) == new_loop().run_until_complete(hashes())
