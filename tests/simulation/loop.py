"""An event loop without real time, sockets or threads, whose every choice comes from a seed.

Of the callbacks that are ready, a random one runs next: asyncio runs them in order, but no correct
program depends on that. When none is ready, time jumps to the next timer. Owns the order of events
and the passing of time; knows nothing of workers and servers, except that callbacks of a paused
process do not run.
"""

from __future__ import annotations

import asyncio
import heapq
from asyncio import events
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context, ContextVar, copy_context
from typing import Any, Final, TypeVar, TypeVarTuple

OWNER: Final[ContextVar[object]] = ContextVar("OWNER", default=None)
"""The process that a callback belongs to, inherited by every task and timer it starts."""

STEPS_MAX: Final = 100_000
"""A world takes hundreds or thousands of steps; one that takes this many is in a livelock."""

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Livelock(RuntimeError):
    """There is always another step, and no progress."""


class Step(asyncio.TimerHandle):
    """A callback that is due to run, with its context."""

    __slots__ = ("arguments", "callback", "context", "when_seconds")

    def __init__(
        self,
        callback: Callable[..., object],
        arguments: tuple[Any, ...],
        context: Context | None,
        when_seconds: float,
    ) -> None:
        # Not super().__init__(), which takes longer than most callbacks here.
        self.callback: Callable[..., object] | None = callback
        self.arguments = arguments
        self.context = copy_context() if context is None else context
        self.when_seconds = when_seconds

    def cancel(self) -> None:
        """Do not run it."""
        self.callback = None

    def cancelled(self) -> bool:
        """Whether it will not run."""
        return self.callback is None

    def when(self) -> float:
        """The time at which it becomes ready."""
        return self.when_seconds


class SimulatedTask(asyncio.Task[T]):
    """A task whose hash is the same in every run.

    A task group keeps its tasks in a set and cancels them in the order of the set, which by default
    depends on their addresses in memory.
    """

    def __init__(
        self,
        coro: Generator[Any, None, T] | Coroutine[Any, Any, T],
        number: int,
        **options: Any,  # noqa: ANN401  # As in asyncio.
    ) -> None:
        self._number = number
        super().__init__(coro, **options)

    def __hash__(self) -> int:
        return self._number


class SimulatedLoop(asyncio.AbstractEventLoop):
    """The part of an event loop that asyncio itself needs; nothing else is implemented."""

    def __init__(self, chance: Callable[[], float]) -> None:
        self._chance = chance
        self._now_seconds = 0.0
        self._ready: list[Step] = []
        self._timers: list[tuple[float, int, Step]] = []
        self._timers_made = 0
        self._tasks_made = 0
        self._paused: set[object] = set()
        self._parked: list[Step] = []
        self.steps = 0

    def time(self) -> float:
        """Seconds since the world began."""
        return self._now_seconds

    def call_soon(
        self,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> Step:
        """Run it now, in random order with everything else that is ready."""
        step = Step(callback, args, context, self._now_seconds)
        self._ready.append(step)
        return step

    def call_later(
        self,
        delay: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> Step:
        """Run it after so many seconds."""
        # Repeats call_at instead of calling it, for speed: half of all steps come this way.
        when = self._now_seconds + delay
        step = Step(callback, args, context, when)
        self._timers_made += 1
        heapq.heappush(self._timers, (when, self._timers_made, step))
        return step

    def call_at(
        self,
        when: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> Step:
        """Run it at this time."""
        return self.call_later(when - self._now_seconds, callback, *args, context=context)

    def create_future(self) -> asyncio.Future[Any]:
        """A future of this loop."""
        return asyncio.Future(loop=self)

    def create_task(
        self,
        coro: Generator[Any, None, T] | Coroutine[Any, Any, T],
        *,
        name: str | None = None,
        context: Context | None = None,
    ) -> asyncio.Task[T]:
        """A task of this loop."""
        self._tasks_made += 1
        return SimulatedTask(coro, self._tasks_made, loop=self, name=name, context=context)

    def pause(self, owner: object) -> None:
        """Run nothing of this process until it is resumed."""
        self._paused.add(owner)

    def resume(self, owner: object) -> None:
        """Let this process run again, with everything that became ready meanwhile."""
        self._paused.discard(owner)
        self._ready += [step for step in self._parked if step.context.get(OWNER) is owner]
        self._parked = [step for step in self._parked if step.context.get(OWNER) is not owner]

    def is_paused(self, owner: object) -> bool:
        """Whether this process is paused."""
        return owner in self._paused

    def run_until_complete(self, future: Any) -> Any:  # noqa: ANN401  # As in asyncio.
        """Run until the future is done; raises Livelock if that takes more than STEPS_MAX."""
        awaited = asyncio.ensure_future(future, loop=self)
        events._set_running_loop(self)
        try:
            self._run_until(awaited, self.steps + STEPS_MAX)
        finally:
            events._set_running_loop(None)
        return awaited.result()

    def _run_until(self, awaited: asyncio.Future[Any], steps_max: int) -> None:
        ready, timers, paused, chance = self._ready, self._timers, self._paused, self._chance
        while not awaited.done():
            if not ready:
                self._now_seconds, _, step = heapq.heappop(timers)
            elif len(ready) == 1:
                step = ready.pop()
            else:
                # Swapping in the last one is quicker than closing the gap.
                chosen = int(chance() * len(ready))
                step, ready[chosen] = ready[chosen], ready[-1]
                ready.pop()
            if step.callback is None:
                continue
            if paused and step.context.get(OWNER) in paused:
                self._parked.append(step)
                continue
            self.steps += 1
            if self.steps > steps_max:
                ready.append(step)
                raise Livelock(f"not done after {STEPS_MAX} steps")
            step.context.run(step.callback, *step.arguments)

    def get_debug(self) -> bool:
        """Asked by asyncio, which is slower in debug mode."""
        return False

    def is_running(self) -> bool:
        """Asked by asyncio."""
        return events._get_running_loop() is self

    def is_closed(self) -> bool:
        """Asked by asyncio."""
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Ignore what asyncio reports at garbage collection, as worlds end abruptly."""
