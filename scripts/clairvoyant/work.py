"""The least time that a request can take of its workers, from the engine's step times.

Every figure is a bound from below that holds whatever the request is batched with: a step takes at
least the sum of what these functions say of the requests in it. Knows nothing of schedules.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from clairvoyant.program import Program

from hfx_sgl.engine.spec import EngineSpec
from hfx_sgl.engine.step_times.times import PrefillPart, StepTimes

_MARGIN = 0.995
"""Bounds are fitted to samples of the step times, and times between samples may lie a little
lower than what is linear between them."""
_BATCH_SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64)
_PREFIX_KNOTS = (0, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768)


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefillWork:
    """A prompt of n new tokens behind a prefix of p costs n * a(p) + c * n^2 + o at least.

    a is linear between `prefix_knots` and its slope is at least 2 c, so that cutting a prompt into
    chunks never costs less.
    """

    prefix_knots: tuple[float, ...]
    per_token_s: tuple[float, ...]
    """a at the knots."""
    per_square_s: float
    """c."""
    per_request_s: float
    """o."""

    def seconds(self, num_new: float, num_prefix: float) -> float:
        """Return the least work, in seconds of one worker."""
        per_token_s = float(np.interp(num_prefix, self.prefix_knots, self.per_token_s))
        return num_new * per_token_s + self.per_square_s * num_new**2 + self.per_request_s

    def per_miss_s(self, num_own: int, num_tokens: int) -> float:
        """Return what each token costs at least that has to be computed beyond the last `num_own`.

        The work is concave in the number of tokens computed between two knots, so the least slope
        of a chord from `num_own` is found at a knot or at the end.
        """
        ends = [num_tokens - knot for knot in self.prefix_knots] + [num_tokens]
        own_s = self.seconds(num_own, num_tokens - num_own)
        return min(
            (self.seconds(end, num_tokens - end) - own_s) / (end - num_own)
            for end in ends
            if end > num_own
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeDemand:
    """What one request asks of whoever decodes it."""

    num_prompt_tokens: int
    num_output_tokens: int
    num_held_tokens: float
    """Room that it alone takes up until it is over."""
    held_before_s: float
    """How long it has that room at least before it can be in a decode step."""

    @property
    def num_steps(self) -> int:
        """The first token comes of the prompt."""
        return self.num_output_tokens - 1

    @property
    def num_context_tokens(self) -> float:
        """Context of all its steps together."""
        num_steps = self.num_steps
        return num_steps * self.num_prompt_tokens + num_steps * (num_steps - 1) / 2


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeWork:
    """A token with k tokens of context, of a request that holds h, costs u + k v + h y at least.

    And where memory is held by requests that do not decode yet, each token of it costs
    `per_token_second` of the worker's time in each second.
    """

    per_token_s: float
    """u."""
    per_context_s: float
    """v."""
    per_held_s: float
    """y."""
    per_token_second: float

    def seconds(self, demand: DecodeDemand) -> float:
        """Return the least work for all output tokens after the first."""
        return (
            demand.num_steps * (self.per_token_s + demand.num_held_tokens * self.per_held_s)
            + demand.num_context_tokens * self.per_context_s
        )

    def before_s(self, demand: DecodeDemand) -> float:
        """Return what holding memory costs before the first step."""
        return self.per_token_second * demand.num_held_tokens * demand.held_before_s


def fit_prefill(
    step_times: StepTimes, spec: EngineSpec, demand: Iterable[tuple[float, float]]
) -> PrefillWork:
    """Return the bound that says most of a demand of (new tokens, prefix tokens) per request."""
    sizes = _sizes(_max_step_tokens(spec))
    knots = [knot for knot in _PREFIX_KNOTS if knot < spec.max_context_tokens]
    knots.append(spec.max_context_tokens)
    samples = [
        (num_parts, size, at, _prefill_step_s(step_times, spec, num_parts, size, knot))
        for num_parts in _BATCH_SIZES
        for size in sizes
        if size >= num_parts
        for at, knot in enumerate(knots)
    ]
    program = Program()
    square = program.add_columns([0.0], [0.0], [np.inf])
    per_token = program.add_columns([0.0] * len(knots), [0.0] * len(knots), [np.inf] * len(knots))
    # Squares of tokens are large: the program has c in seconds per million of them.
    weights = np.zeros(1 + len(knots))
    for num_new, num_prefix in demand:
        weights[0] += num_new**2 / 1e6
        shares = np.interp(num_prefix, knots, np.arange(len(knots)))
        low = min(int(shares), len(knots) - 2)
        weights[1 + low] += num_new * (1 - (shares - low))
        weights[2 + low] += num_new * (shares - low)
    scale = max(float(weights.sum()), 1e-9)
    program.set_objective(np.concatenate((square, per_token)), weights / scale)
    for num_parts, size, at, step_s in samples:
        coefficients = [size * (size / num_parts) / 1e6, float(size)]
        program.add_row([square[0], per_token[at]], coefficients, upper=step_s)
    for (low_at, low), (high_at, high) in pairwise(enumerate(knots)):
        columns = [per_token[low_at], per_token[high_at], square[0]]
        program.add_row(columns, [-1e3, 1e3, -2e-3 * (high - low)], lower=0.0)
    solution = program.solve()
    return PrefillWork(
        prefix_knots=tuple(map(float, knots)),
        per_token_s=tuple(_MARGIN * solution.values[per_token]),
        per_square_s=_MARGIN * float(solution.values[square[0]]) / 1e6,
        per_request_s=spec.host_overhead_per_request_s,
    )


def fit_decode(
    step_times: StepTimes,
    spec: EngineSpec,
    demands: Sequence[DecodeDemand],
    *,
    num_reserved_tokens: int,
    is_kv_shared: bool,
) -> DecodeWork:
    """Return the bound that says most of what `demands` ask for together.

    Requests that run together hold no more than fits. A step of B requests with K tokens of context
    that takes D, while they hold S of the capacity C, leaves room for C - S to others, so it has
    to be shown that D (1 - r (C - S)) >= u B + v K + y S for every step, with r at most 1/C.

    Args:
        num_reserved_tokens: what each holds beyond its prompt.
        is_kv_shared: requests of the same prefix have its KV once, so that what runs together may
            attend to more tokens than fit.
    """
    capacity = spec.kv_capacity_tokens
    program = Program()
    # In seconds per token, per thousand tokens, per thousand, and per million tokens.
    can_wait = 0.0 if is_kv_shared else 1e6 / capacity
    columns = program.add_columns([0.0] * 4, [0.0] * 4, [np.inf, np.inf, np.inf, can_wait])
    weights = np.array(
        [
            sum(each.num_steps for each in demands),
            sum(each.num_context_tokens for each in demands) / 1e3,
            sum(each.num_steps * each.num_held_tokens for each in demands) / 1e3,
            sum(each.num_held_tokens * each.held_before_s for each in demands) / 1e6,
        ]
    )
    program.set_objective(columns, weights / max(float(weights.sum()), 1e-9))
    contexts = [size for size in _sizes(spec.max_context_tokens) if size % 5 and size % 7]
    most_output = max(each.num_output_tokens for each in demands)
    for num_running in range(1, spec.max_running_requests + 1):
        most = spec.max_context_tokens
        if not is_kv_shared:
            most = min(most, capacity // num_running)
        overhead_s = spec.host_overhead_s + num_running * spec.host_overhead_per_request_s
        for context in {min(context, most) for context in contexts}:
            num_context = num_running * context
            step_s = step_times.decode_s(num_running, num_context) + overhead_s
            reserved = num_reserved_tokens * num_running
            most_held = min(capacity, num_context + reserved)
            least_held = max(0, num_context - num_running * most_output) + reserved
            for num_held in {most_held, min(least_held, most_held)}:
                room = step_s * (capacity - num_held) / 1e6
                coefficients = [num_running, num_context / 1e3, num_held / 1e3, room]
                program.add_row(columns, coefficients, upper=step_s)
    values = _MARGIN * program.solve().values
    return DecodeWork(
        per_token_s=float(values[columns[0]]),
        per_context_s=float(values[columns[1]]) / 1e3,
        per_held_s=float(values[columns[2]]) / 1e3,
        per_token_second=float(values[columns[3]]) / 1e6,
    )


def _prefill_step_s(
    step_times: StepTimes, spec: EngineSpec, num_parts: int, size: int, num_prefix: int
) -> float:
    """Return the time of a step of equal prompts, less what it takes for each request."""
    each, more = divmod(size, num_parts)
    parts = [PrefillPart(each + (i < more), num_prefix) for i in range(num_parts)]
    return step_times.prefill_s(parts) + spec.host_overhead_s


def _max_step_tokens(spec: EngineSpec) -> int:
    if spec.chunked_prefill_tokens is not None:
        return spec.chunked_prefill_tokens
    return max(spec.max_prefill_tokens, spec.max_context_tokens)


def _sizes(most: int) -> list[int]:
    """Return numbers of tokens from 1 to `most`: those that tables are measured at, and more."""
    sizes = {1, most, *range(1024, min(most, 8192) + 1, 256)}
    for factor in (1, 3, 5, 7):
        sizes |= {factor << i for i in range(most.bit_length())}
    return sorted(size for size in sizes if size <= most)
