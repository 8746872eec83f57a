"""How far a simulation is, on one line that is rewritten; for a log file, a line now and then."""

from typing import TextIO

from hfx_sgl.clock import Clock

_TERMINAL_INTERVAL_S = 0.2
_LOG_INTERVAL_S = 10.0


class ProgressLine:
    """Writes to `stream`, at most as often as somebody can read it."""

    def __init__(self, stream: TextIO, clock: Clock) -> None:
        self._stream = stream
        self._clock = clock
        self._is_terminal = stream.isatty()
        self._interval_s = _TERMINAL_INTERVAL_S if self._is_terminal else _LOG_INTERVAL_S
        self._started_s = clock.now_s()
        self._due_s = self._started_s + self._interval_s
        self._has_shown = False

    def show(self, num_ended: int, now_s: float) -> None:
        """Take how many requests have ended and the simulated time; show them if it is time."""
        wall_s = self._clock.now_s()
        if wall_s >= self._due_s:
            self._due_s = wall_s + self._interval_s
            self._write(num_ended, now_s, wall_s - self._started_s)

    def close(self) -> None:
        """End the line."""
        if self._has_shown and self._is_terminal:
            self._stream.write("\n")

    def _write(self, num_ended: int, now_s: float, elapsed_s: float) -> None:
        self._has_shown = True
        text = (
            f"{num_ended:,} requests done, {now_s:,.0f} s simulated, "
            f"{num_ended / elapsed_s:,.0f} requests/s, {now_s / elapsed_s:,.0f}x real time"
        )
        self._stream.write(f"\r\x1b[K{text}" if self._is_terminal else f"{text}\n")
        self._stream.flush()
