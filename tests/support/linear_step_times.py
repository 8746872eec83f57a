"""Step times for tests of the engine."""

from collections.abc import Sequence

from hfx_sgl.engine.spec import EngineSpec
from hfx_sgl.engine.step_times.times import PrefillPart


class LinearStepTimes:
    """Step times that binary fractions hold exactly; checks what it is asked against a spec."""

    def __init__(self, spec: EngineSpec) -> None:
        self._spec = spec

    def prefill_s(self, parts: Sequence[PrefillPart]) -> float:
        self._check_parts(parts)
        return 1 / 64 + sum(p.num_new_tokens / 1024 + p.num_prefix_tokens / 8192 for p in parts)

    def mixed_s(
        self, parts: Sequence[PrefillPart], num_running: int, num_context_tokens: int
    ) -> float:
        assert self._spec.has_mixed_chunk
        self._check_parts(parts)
        decode_s = self.decode_s(num_running, num_context_tokens)
        return self.prefill_s(parts) + decode_s - 1 / 128

    def decode_s(self, num_running: int, num_context_tokens: int) -> float:
        assert 1 <= num_running <= self._spec.max_running_requests
        # Shared prefixes are counted for each.
        most_tokens = min(self._spec.kv_capacity_tokens, self._spec.max_context_tokens)
        assert num_running <= num_context_tokens <= num_running * most_tokens
        if not self._spec.has_prefix_cache:
            assert num_context_tokens <= self._spec.kv_capacity_tokens
        return 1 / 128 + num_running / 2048 + num_context_tokens / 65536

    def decode_steps_s(self, num_running: int, num_context_tokens: int, num_steps: int) -> float:
        assert num_steps >= 1
        first_s = self.decode_s(num_running, num_context_tokens)
        more = num_running * num_steps * (num_steps - 1) // 2
        return first_s * num_steps + more / 65536

    def decode_steps_within(
        self, num_running: int, num_context_tokens: int, overhead_s: float, duration_s: float
    ) -> int:
        num_steps = 0
        while (
            self.decode_steps_s(num_running, num_context_tokens, num_steps + 1)
            + (num_steps + 1) * overhead_s
            <= duration_s
        ):
            num_steps += 1
        return num_steps

    @property
    def num_extrapolated(self) -> int:
        return 0

    def _check_parts(self, parts: Sequence[PrefillPart]) -> None:
        spec = self._spec
        num_new = sum(part.num_new_tokens for part in parts)
        assert all(p.num_new_tokens >= 1 and p.num_prefix_tokens >= 0 for p in parts)
        assert 1 <= len(parts) <= spec.max_running_requests
        assert num_new <= spec.kv_capacity_tokens
        if spec.chunked_prefill_tokens is not None:
            assert num_new <= spec.chunked_prefill_tokens
        if len(parts) > 1:
            before_last = num_new - parts[-1].num_new_tokens
            assert before_last < spec.max_prefill_tokens
