"""Measures how late the event loop runs its timers."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from hfx_router.metrics.histogram import Histogram
from hfx_sgl.clock import Clock


class LoopLagMonitor:
    """Sleeps, and records by how much longer than asked each sleep took.

    Everything that blocks the loop shows here: a slow callback, a garbage collection, a
    starved machine. `interval_s` must be positive; it bounds how often the lag is sampled.
    """

    def __init__(
        self,
        histogram: Histogram,
        clock: Clock,
        interval_s: float,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        if interval_s <= 0:
            raise ValueError(f"interval_s must be positive ({interval_s})")
        self._histogram = histogram
        self._clock = clock
        self._interval_s = interval_s
        self._sleep = sleep
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start sampling in the running loop; a second call changes nothing."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(), name="loop-lag")

    async def stop(self) -> None:
        """Stop sampling and wait until it has stopped."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _run(self) -> None:
        while True:
            due_at_s = self._clock.now_s() + self._interval_s
            await self._sleep(self._interval_s)
            self._histogram.observe(max(0.0, self._clock.now_s() - due_at_s))
