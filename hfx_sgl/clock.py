"""The only place that reads a clock. Everything else takes `now_s` or a `Clock`."""

import time
from typing import Protocol


class Clock(Protocol):
    """A monotonic clock in seconds; its zero has no meaning."""

    def now_s(self) -> float:
        """Return the current instant."""
        ...


class WallClock:
    """The machine's monotonic clock."""

    now_s = staticmethod(time.monotonic)
    """Return seconds since an arbitrary start."""


class FakeClock:
    """A clock that moves only when told to."""

    def __init__(self, now_s: float = 0.0) -> None:
        self._now_s = now_s

    def now_s(self) -> float:
        """Return the instant that was last set."""
        return self._now_s

    def advance(self, duration_s: float) -> None:
        """Move the clock forward by `duration_s` (never negative)."""
        if duration_s < 0:
            raise ValueError(f"duration_s must not be negative ({duration_s})")
        self._now_s += duration_s


def unix_time_s() -> float:
    """Return seconds since 1970, for what people read; never for durations."""
    return time.time()
