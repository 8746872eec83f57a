"""A small simulated cluster whose step times are formulas, and workloads made by hand."""

import random
from collections.abc import Iterator, Sequence

from hfx_sgl.engine.profile import EngineProfile
from hfx_sgl.engine.step_times.times import PrefillPart
from hfx_sgl.prompt import Prompt
from hfx_sgl.slo import Slo
from hfx_sgl.workload.planned import PlannedRequest

PREFILL_BASE_S, PREFILL_TOKEN_S = 0.004, 20e-6
DECODE_BASE_S, DECODE_REQUEST_S, DECODE_CONTEXT_S = 0.006, 20e-6, 40e-9


class LinearStepTimes:
    """StepTimes by formula; nothing is out of its range."""

    num_extrapolated = 0

    def prefill_s(self, parts: Sequence[PrefillPart]) -> float:
        return PREFILL_BASE_S + PREFILL_TOKEN_S * sum(part.num_new_tokens for part in parts)

    def mixed_s(
        self, parts: Sequence[PrefillPart], num_running: int, num_context_tokens: int
    ) -> float:
        return self.prefill_s(parts) + DECODE_REQUEST_S * num_running

    def decode_s(self, num_running: int, num_context_tokens: int) -> float:
        return (
            DECODE_BASE_S + DECODE_REQUEST_S * num_running + DECODE_CONTEXT_S * num_context_tokens
        )

    def decode_steps_s(self, num_running: int, num_context_tokens: int, num_steps: int) -> float:
        growth = DECODE_CONTEXT_S * num_running * num_steps * (num_steps - 1) / 2
        return num_steps * self.decode_s(num_running, num_context_tokens) + growth

    def decode_steps_within(
        self, num_running: int, num_context_tokens: int, overhead_s: float, duration_s: float
    ) -> int:
        def lasts_s(num_steps: int) -> float:
            steps_s = self.decode_steps_s(num_running, num_context_tokens, num_steps)
            return steps_s + num_steps * overhead_s

        high = 1
        while lasts_s(high) <= duration_s:
            high *= 2
        low = 0
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if lasts_s(middle) <= duration_s else (low, middle)
        return low


class BoundedStepTimes(LinearStepTimes):
    """Counts every decode step as extrapolated."""

    def __init__(self) -> None:
        self.num_extrapolated = 0

    def decode_steps_s(self, num_running: int, num_context_tokens: int, num_steps: int) -> float:
        self.num_extrapolated += 1
        return super().decode_steps_s(num_running, num_context_tokens, num_steps)


def linear_profile(step_times: LinearStepTimes | None = None) -> EngineProfile:
    return EngineProfile(
        name="linear",
        model="none",
        device="none",
        num_devices=1,
        source="formulas of a test",
        kv_capacity_tokens=200_000,
        kv_bytes_per_token=100_000,
        max_context_tokens=32_768,
        step_times=step_times or LinearStepTimes(),
    )


def planned(
    index: int,
    at_s: float,
    *,
    prompt_tokens: int = 100,
    output_tokens: int = 10,
    slo: Slo | None = None,
    prefix: int | None = None,
    class_name: str = "chat",
) -> PlannedRequest:
    """A request with a prompt of its own, or one that begins with 256 shared tokens."""
    prompt = Prompt((1000 + index,), (prompt_tokens,))
    if prefix is not None:
        prompt = Prompt((prefix, 1000 + index), (256, prompt_tokens))
    return PlannedRequest(
        request_id=f"r{index}",
        class_name=class_name,
        at_s=at_s,
        prompt=prompt,
        num_output_tokens=output_tokens,
        max_output_tokens=2 * output_tokens,
        slo=slo or Slo(),
        routing_key=None if prefix is None else f"tenant-{prefix}",
    )


def poisson(
    num_requests: int, rate_per_s: float, *, seed: int = 0, max_output_tokens: int = 60
) -> Iterator[PlannedRequest]:
    """Requests of two classes with shared prefixes."""
    rng = random.Random(seed)
    at_s = 0.0
    for index in range(num_requests):
        at_s += rng.expovariate(rate_per_s)
        yield planned(
            index,
            at_s,
            prompt_tokens=rng.randint(20, 900),
            output_tokens=rng.randint(1, max_output_tokens),
            slo=Slo(ttft_s=0.5, tpot_s=0.05),
            prefix=rng.randrange(12),
            class_name=rng.choice(("chat", "code")),
        )
