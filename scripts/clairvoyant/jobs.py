"""The requests of a trace as work with windows, for one cluster."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from clairvoyant.prefixes import Shared, exclusive_tokens, shared_parts
from clairvoyant.program import Floats
from clairvoyant.work import DecodeDemand, fit_decode, fit_prefill

from hfx_sgl.engine.profile import EngineProfile
from hfx_sgl.engine.spec import EngineSpec
from hfx_sgl.errors import ConfigError
from hfx_sgl.sim.spec import SimSpec
from hfx_sgl.types import Role
from hfx_sgl.workload.planned import PlannedRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Jobs:
    """Every request of a trace, in order of arrival. Times in seconds; work of one worker."""

    release_s: Floats
    """When a prefill worker can begin at the earliest."""
    prefilled_by_s: Floats
    """When the prompt has to be computed at the latest."""
    done_by_s: Floats
    """When the worker has to have produced the last token."""
    own_s: Floats
    """Least prefill work when all that others share is cached."""
    per_miss_s: Floats
    """Least work for each token more that is not."""
    held_s: Floats
    """Least time of a decode worker that holding memory before `prefilled_by_s` costs."""
    decode_s: Floats
    """Least decode work."""
    held_tokens: Floats
    """Room that each takes up at its decode worker from before `prefilled_by_s` to its end."""
    shared: Shared

    @property
    def can_be_kept(self) -> Floats:
        """1 for each request that fits into its windows when it is alone, else 0."""
        fits = self.own_s <= self.prefilled_by_s - self.release_s
        fits &= self.own_s + self.decode_s <= self.done_by_s - self.release_s
        return fits.astype(np.float64)


def make_jobs(requests: Sequence[PlannedRequest], spec: SimSpec, profile: EngineProfile) -> Jobs:
    """Return the jobs of a trace on the cluster of `spec`.

    Raises:
        ConfigError: the engines compute prompts and tokens in one step.
    """
    engine = profile.make_spec(Role.PREFILL if spec.is_pd else Role.REGULAR, **spec.engine)
    if engine.has_mixed_chunk:
        raise ConfigError("--enable-mixed-chunk: the bound does not hold for mixed steps")
    shared = shared_parts([each.prompt for each in requests])
    if not engine.has_prefix_cache:
        shared = _nothing_shared(requests)
    sizes = [each.prompt.num_tokens for each in requests]
    own = shared.num_own_tokens
    needs = [(num_own, size - num_own) for num_own, size in zip(own, sizes, strict=True)]
    # Somebody has to compute what is shared, and does so with nothing before it.
    firsts = [(sizes[part.members[0]], 0) for part in shared.parts]
    prefill = fit_prefill(profile.step_times, engine, [*needs, *firsts])
    own_s = [prefill.seconds(*need) for need in needs]
    horizon_s = requests[-1].at_s + spec.max_drain_s
    windows = np.array(
        [_window(each, spec, engine.handoff_latency_s, horizon_s) for each in requests]
    )
    exclusive = exclusive_tokens(shared, windows[:, 0], windows[:, 2])
    demands = [
        _decode_demand(each, spec, engine, float(num_exclusive), least_s)
        for each, num_exclusive, least_s in zip(requests, exclusive, own_s, strict=True)
    ]
    decode = fit_decode(
        profile.step_times,
        engine,
        demands,
        num_reserved_tokens=engine.num_reserved_decode_tokens if spec.is_pd else 0,
        is_kv_shared=engine.has_prefix_cache and not spec.is_pd,
    )
    return Jobs(
        release_s=windows[:, 0],
        prefilled_by_s=windows[:, 1],
        done_by_s=windows[:, 2],
        own_s=np.array(own_s),
        per_miss_s=np.array(
            [
                prefill.per_miss_s(num_own, size) if num_own < size else math.inf
                for num_own, size in zip(own, sizes, strict=True)
            ]
        ),
        held_s=np.array([decode.before_s(each) for each in demands]),
        decode_s=np.array([decode.seconds(each) for each in demands]),
        held_tokens=np.array([each.num_held_tokens for each in demands]),
        shared=shared,
    )


def _decode_demand(
    request: PlannedRequest,
    spec: SimSpec,
    engine: EngineSpec,
    num_exclusive: float,
    prefill_s: float,
) -> DecodeDemand:
    num_prompt = request.prompt.num_tokens
    num_held = num_exclusive
    held_before_s = 0.0
    if spec.is_pd:
        # Room for the prompt is set aside before it is computed.
        num_held = num_prompt + engine.num_reserved_decode_tokens
        transfer_s = num_prompt * engine.kv_bytes_per_token / engine.handoff_bytes_per_s
        held_before_s = spec.handshake_s + max(prefill_s, transfer_s) + engine.handoff_latency_s
    return DecodeDemand(
        num_prompt_tokens=num_prompt,
        num_output_tokens=request.num_output_tokens,
        num_held_tokens=num_held,
        held_before_s=held_before_s,
    )


def _window(
    request: PlannedRequest, spec: SimSpec, handoff_s: float, horizon_s: float
) -> tuple[float, float, float]:
    """Return when its prompt may be begun, when it has to be computed, and when all is over."""
    slo = request.slo
    num_steps = request.num_output_tokens - 1
    release_s = request.at_s + spec.network_s
    first_by_s = request.at_s + min(slo.ttft_s, slo.e2e_s) - spec.network_s
    stream_s = num_steps * slo.tpot_s if num_steps else 0.0
    last_by_s = request.at_s + min(slo.ttft_s + stream_s, slo.e2e_s) - spec.network_s
    prefilled_by_s = min(first_by_s, horizon_s)
    if spec.is_pd:
        release_s += spec.handshake_s
        prefilled_by_s -= handoff_s
    return release_s, prefilled_by_s, min(last_by_s, horizon_s)


def _nothing_shared(requests: Sequence[PlannedRequest]) -> Shared:
    return Shared(
        parts=(),
        num_own_tokens=tuple(each.prompt.num_tokens for each in requests),
        num_tracked_tokens=(0,) * len(requests),
    )
