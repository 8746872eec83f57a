"""Step times of a device that is slower or faster than the one that was measured."""

from collections.abc import Sequence

from hfx_sgl.engine.step_times.times import PrefillPart, StepTimes


class ScaledStepTimes:
    """StepTimes: each answer of others, multiplied. Host overhead is not among them."""

    __slots__ = ("_scale", "_times")

    def __init__(self, times: StepTimes, scale: float) -> None:
        self._times = times
        self._scale = scale

    def prefill_s(self, parts: Sequence[PrefillPart]) -> float:
        """See StepTimes."""
        return self._scale * self._times.prefill_s(parts)

    def mixed_s(
        self, parts: Sequence[PrefillPart], num_running: int, num_context_tokens: int
    ) -> float:
        """See StepTimes."""
        return self._scale * self._times.mixed_s(parts, num_running, num_context_tokens)

    def decode_s(self, num_running: int, num_context_tokens: int) -> float:
        """See StepTimes."""
        return self._scale * self._times.decode_s(num_running, num_context_tokens)

    def decode_steps_s(self, num_running: int, num_context_tokens: int, num_steps: int) -> float:
        """See StepTimes."""
        return self._scale * self._times.decode_steps_s(num_running, num_context_tokens, num_steps)

    def decode_steps_within(
        self, num_running: int, num_context_tokens: int, overhead_s: float, duration_s: float
    ) -> int:
        """See StepTimes: as many as there are of the others in proportionally less time."""
        return self._times.decode_steps_within(
            num_running, num_context_tokens, overhead_s / self._scale, duration_s / self._scale
        )

    @property
    def num_extrapolated(self) -> int:
        """See StepTimes."""
        return self._times.num_extrapolated
