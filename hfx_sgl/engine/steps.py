"""What an engine computes: a prefill step, or a stretch of decode steps of the same batch."""

from typing import NamedTuple

from hfx_sgl.engine.sequence import Sequence
from hfx_sgl.engine.step_times.times import StepTimes


class Chunk(NamedTuple):
    """What one sequence has computed in a prefill step."""

    sequence: Sequence
    num_tokens: int
    num_prefix_tokens: int
    """Tokens before them whose KV was there already."""
    is_last: bool
    """Whether its prompt is complete afterwards."""


class PrefillStep:
    """A prefill step under way; with `num_running`, the running requests get a token too."""

    __slots__ = ("chunks", "end_s", "num_running", "num_tokens", "start_s")

    def __init__(
        self, chunks: list[Chunk], num_running: int, *, start_s: float, end_s: float
    ) -> None:
        self.chunks = chunks
        self.num_running = num_running
        self.num_tokens = sum(chunk.num_tokens for chunk in chunks) + num_running
        self.start_s = start_s
        self.end_s = end_s

    @property
    def next_end_s(self) -> float:
        """When the step under way ends."""
        return self.end_s


_ROUNDING = 1 - 1e-12
"""A duration is shortened by so much before it is turned into steps: what the table's inverse
rounds up is left out and found again by comparing instants."""


class DecodeStretch:
    """Consecutive decode steps of one batch, timed from their common start.

    Instants depend on the start and the number of the step alone, not on when somebody asked.
    """

    __slots__ = (
        "_next_end_s",
        "_num_context_tokens",
        "_overhead_s",
        "_step_times",
        "end_s",
        "num_done",
        "num_running",
        "num_steps",
        "start_s",
    )

    def __init__(
        self,
        step_times: StepTimes,
        *,
        start_s: float,
        num_running: int,
        num_context_tokens: int,
        num_steps: int,
        overhead_s: float,
    ) -> None:
        self._step_times = step_times
        self._num_context_tokens = num_context_tokens
        self._overhead_s = overhead_s
        self._next_end_s: float | None = None
        self.start_s = start_s
        self.num_running = num_running
        self.num_steps = num_steps
        """After so many steps the batch is formed anew."""
        self.num_done = 0
        """Steps whose end has been reached and accounted for."""
        self.end_s = self._compute_end_s(num_steps)
        """When the last step ends."""

    def step_end_s(self, num_steps: int) -> float:
        """Return when so many steps have ended."""
        return self.end_s if num_steps == self.num_steps else self._compute_end_s(num_steps)

    def _compute_end_s(self, num_steps: int) -> float:
        steps_s = self._step_times.decode_steps_s(
            self.num_running, self._num_context_tokens, num_steps
        )
        return self.start_s + (steps_s + num_steps * self._overhead_s)

    @property
    def next_end_s(self) -> float:
        """When the step under way ends, as far as `num_done` is up to date."""
        if self._next_end_s is None:
            self._next_end_s = self.step_end_s(self.num_done + 1)
        return self._next_end_s

    def num_ended(self, now_s: float) -> int:
        """Return how many steps have ended at an instant before or at `end_s`."""
        if now_s >= self.end_s:
            return self.num_steps
        num_ended = self.num_done
        if self._next_end_s is None:
            num_ended = max(num_ended, self._num_within(now_s - self.start_s))
        elif now_s < self._next_end_s:
            return num_ended
        elif (next_end_s := self.step_end_s(num_ended + 2)) > now_s:
            # Whoever goes step by step comes by here.
            self._next_end_s = next_end_s
            return num_ended + 1
        else:
            num_ended = max(num_ended + 2, self._num_within(now_s - self.start_s))
        while (next_end_s := self.step_end_s(num_ended + 1)) <= now_s:
            num_ended += 1
        self._next_end_s = next_end_s
        return num_ended

    def _num_within(self, duration_s: float) -> int:
        return self._step_times.decode_steps_within(
            self.num_running, self._num_context_tokens, self._overhead_s, duration_s * _ROUNDING
        )

    def cut(self) -> None:
        """Let it end with the step under way. `num_done` is up to date."""
        if self.num_done + 1 < self.num_steps:
            self.end_s = self.next_end_s
            self.num_steps = self.num_done + 1
