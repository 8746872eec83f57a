"""Shows how far a start has come: one line rewritten on a terminal, single lines elsewhere."""

import shutil
from typing import TextIO

from hfx_sgl.clock import Clock

_REPEAT_S = 10.0
"""How often an unchanged state is shown again where lines cannot be rewritten."""


class Progress:
    """Prints to `stream`; only what has changed, unless the stream is a terminal."""

    def __init__(self, stream: TextIO, clock: Clock) -> None:
        self._stream = stream
        self._clock = clock
        self._started_at_s = clock.now_s()
        self._is_tty = stream.isatty()
        self._shown = ""
        self._shown_at_s = 0.0
        self._is_line_open = False

    def note(self, text: str) -> None:
        """Print a line that stays."""
        self._close_line()
        print(text, file=self._stream, flush=True)

    def show(self, state: str) -> None:
        """Show what is being waited for."""
        now_s = self._clock.now_s()
        elapsed = f"[{now_s - self._started_at_s:4.0f} s] "
        if self._is_tty:
            width = shutil.get_terminal_size().columns - 1
            line = (elapsed + state)[:width]
            self._stream.write(f"\r\x1b[K{line}")
            self._stream.flush()
            self._is_line_open = True
        elif state != self._shown or now_s - self._shown_at_s >= _REPEAT_S:
            print(elapsed + state, file=self._stream, flush=True)
            self._shown_at_s = now_s
        self._shown = state

    def finish(self, text: str) -> None:
        """Replace the state by its outcome."""
        elapsed = f"[{self._clock.now_s() - self._started_at_s:4.0f} s] "
        if self._is_line_open:
            self._stream.write("\r\x1b[K")
            self._is_line_open = False
        self.note(elapsed + text)
        self._shown = ""

    def _close_line(self) -> None:
        if self._is_line_open:
            self._stream.write("\n")
            self._is_line_open = False
