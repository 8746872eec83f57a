import asyncio

import pytest
from hfx_router.metrics.histogram import Histogram
from hfx_router.metrics.loop_lag import LoopLagMonitor

from hfx_sgl.clock import FakeClock


class StubbornSleep:
    """Sleeps that take as long as the test says, whatever was asked."""

    def __init__(self, clock: FakeClock, durations_s: list[float]) -> None:
        self.clock = clock
        self.durations_s = durations_s
        self.asked_s: list[float] = []
        self.used_up = asyncio.Event()

    async def __call__(self, duration_s: float) -> None:
        self.asked_s.append(duration_s)
        if not self.durations_s:
            self.used_up.set()
            await asyncio.Event().wait()
        self.clock.advance(self.durations_s.pop(0))


async def test_lag_is_the_time_beyond_the_interval() -> None:
    clock, histogram = FakeClock(), Histogram((0.01, 0.1, 1))
    sleep = StubbornSleep(clock, [0.5, 0.55, 2.5, 0.4])
    monitor = LoopLagMonitor(histogram, clock, 0.5, sleep)
    monitor.start()
    await sleep.used_up.wait()
    await monitor.stop()
    assert sleep.asked_s == [0.5] * 5
    assert histogram.counts == [2, 1, 0, 1]
    assert histogram.total == pytest.approx(0.05 + 2.0)


async def test_stop_ends_the_task_and_start_may_follow() -> None:
    clock, histogram = FakeClock(), Histogram((1,))
    sleep = StubbornSleep(clock, [0.5])
    monitor = LoopLagMonitor(histogram, clock, 0.5, sleep)
    await monitor.stop()
    monitor.start()
    monitor.start()
    await sleep.used_up.wait()
    assert [task.get_name() for task in asyncio.all_tasks()].count("loop-lag") == 1
    await monitor.stop()
    assert "loop-lag" not in [task.get_name() for task in asyncio.all_tasks()]
    sleep.durations_s.append(0.5)
    sleep.used_up.clear()
    monitor.start()
    await sleep.used_up.wait()
    await monitor.stop()
    assert histogram.num_observed == 2


@pytest.mark.parametrize("interval_s", [0.0, -1.0])
def test_an_interval_must_be_positive(interval_s: float) -> None:
    with pytest.raises(ValueError, match="interval_s must be positive"):
        LoopLagMonitor(Histogram((1,)), FakeClock(), interval_s)
