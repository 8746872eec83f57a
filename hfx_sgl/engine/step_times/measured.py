"""Step times from measured tables: the `StepTimes` of an engine profile."""

from collections.abc import Sequence

from hfx_sgl.engine.step_times.correction import Correction
from hfx_sgl.engine.step_times.decode_table import DecodeTable
from hfx_sgl.engine.step_times.prefill_table import PrefillTable
from hfx_sgl.engine.step_times.rows import Row
from hfx_sgl.engine.step_times.times import PrefillPart


class MeasuredStepTimes:
    """Interpolates measured steps; implements `StepTimes`.

    Inside the measured range nothing is fitted: at a measured point the answer is the measured
    value, between points it is linear. Beyond the last point an answer goes on with the slope of
    the last two and is counted in `num_extrapolated`. Below the first point it is that of the
    first, and not counted: tables begin with a few tokens, where a step costs a constant.
    """

    __slots__ = ("_correction", "_decode", "_num_extrapolated", "_prefill")

    def __init__(
        self, prefill: Sequence[Row], decode: Sequence[Row], mixed: Sequence[Row] = ()
    ) -> None:
        """Take rows that the checks of `grid` have no complaint about."""
        self._prefill = PrefillTable(prefill)
        self._decode = DecodeTable(decode)
        self._num_extrapolated = 0
        self._correction = self._make_correction(mixed)

    @property
    def num_extrapolated(self) -> int:
        """How many answers lay outside the measured range."""
        return self._num_extrapolated

    def prefill_s(self, parts: Sequence[PrefillPart]) -> float:
        """Return the time of a step that computes prompts only; the formula is PrefillTable's."""
        if len(parts) == 1:
            num_new, num_prefix = parts[0]
            if self._prefill.is_outside(num_new, num_prefix):
                self._num_extrapolated += 1
            return self._prefill.one_s(num_new, num_prefix)
        time_s, is_outside = self._prefill.several_s(parts)
        self._num_extrapolated += is_outside
        return time_s

    def mixed_s(
        self, parts: Sequence[PrefillPart], num_running: int, num_context_tokens: int
    ) -> float:
        """Return the time of a step that computes prompts and one token of each running request.

        With N new tokens in `parts`, B running requests of mean context k, T of PrefillTable, D of
        DecodeTable and its shortest context k0, it is

            prefill_s(parts) + T(N + B, 0) - T(N, 0) + D(B, k) - D(B, k0) + correction(N, B)

        that is: to all but attention the running requests are B more new tokens, and attention to
        their context comes on top. The correction is what the mixed rows take beyond that, their
        mean where several have the same N and B; without such rows it is 0 and every answer counts
        as extrapolated. The result is no less than that of either step alone.
        """
        num_new = sum([part.num_new_tokens for part in parts])
        num_before = self._num_extrapolated
        prefill_s = self.prefill_s(parts)
        if num_running == 0:
            return prefill_s
        decode_s = self.decode_s(num_running, num_context_tokens)
        if self._num_extrapolated > num_before or self._is_mix_outside(num_new, num_running):
            self._num_extrapolated = num_before + 1
        mixed_s = (
            prefill_s
            + decode_s
            - self._shared_s(num_new, num_running)
            + self._correction.at(num_new, num_running)
        )
        return max(prefill_s, decode_s, mixed_s)

    def decode_s(self, num_running: int, num_context_tokens: int) -> float:
        """Return the time of one decode step."""
        curve = self._decode.curve(num_running)
        context = num_context_tokens / num_running
        if context > curve.last_x or num_running > self._decode.max_running:
            self._num_extrapolated += 1
        return curve.at(context)

    def decode_steps_s(self, num_running: int, num_context_tokens: int, num_steps: int) -> float:
        """Return the time of consecutive decode steps of the same requests.

        It is the sum of `decode_s` over the steps, without the steps being gone through.
        """
        curve = self._decode.curve(num_running)
        context = num_context_tokens / num_running
        if context + num_steps > curve.last_x + 1.0 or num_running > self._decode.max_running:
            self._num_extrapolated += 1
        return curve.sum_steps(context, num_steps)

    def decode_steps_within(
        self, num_running: int, num_context_tokens: int, overhead_s: float, duration_s: float
    ) -> int:
        """Return how many consecutive decode steps end within a finite duration."""
        curve = self._decode.curve(num_running)
        context = num_context_tokens / num_running
        num_steps = curve.steps_within(context, overhead_s, duration_s)
        if context + num_steps > curve.last_x + 1.0 or num_running > self._decode.max_running:
            self._num_extrapolated += 1
        return num_steps

    def _shared_s(self, num_new: int, num_running: int) -> float:
        """Return what a prefill and a decode step apart take longer than one mixed step."""
        one_s = self._prefill.one_s
        more_tokens_s = one_s(num_new + num_running, 0) - one_s(num_new, 0)
        return self._decode.curve(num_running).first_y - more_tokens_s

    def _is_mix_outside(self, num_new: int, num_running: int) -> bool:
        return self._correction.is_outside(num_new, num_running) or self._prefill.is_outside(
            num_new + num_running, 0
        )

    def _make_correction(self, mixed: Sequence[Row]) -> Correction:
        samples: dict[tuple[int, int], list[float]] = {}
        for row in mixed:
            num_prompts, num_new, num_prefix, num_running, num_context = row.key
            prefill_s, _ = self._prefill.several_s([PrefillPart(num_new, num_prefix)] * num_prompts)
            decode_s = self._decode.curve(num_running).at(num_context)
            total = num_prompts * num_new
            estimate_s = prefill_s + decode_s - self._shared_s(total, num_running)
            samples.setdefault((total, num_running), []).append(row.latency_ms / 1e3 - estimate_s)
        return Correction({cell: sum(values) / len(values) for cell, values in samples.items()})
