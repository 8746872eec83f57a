"""No policy keeps more in the simulator than the clairvoyant bound says."""

import dataclasses

import pytest
from clairvoyant.bound import upper_bound
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.simulated import linear_profile, poisson

from hfx_sgl.engine.profile import load_profile
from hfx_sgl.policy.selection.catalog import POLICY_NAMES
from hfx_sgl.sim.run import simulate
from hfx_sgl.sim.slo_router import POLICY_NAME
from hfx_sgl.sim.spec import SimSpec
from hfx_sgl.workload.load import load_workload

PROFILE = linear_profile()
SHAPES = ((1, 0, 0), (2, 0, 0), (0, 1, 1), (0, 2, 1))
"""Unified, prefill and decode workers."""


def _cluster(shape: tuple[int, int, int]) -> SimSpec:
    num_workers, num_prefill, num_decode = shape
    return SimSpec(
        num_workers=num_workers,
        num_prefill=num_prefill,
        num_decode=num_decode,
        sample_interval_s=None,
    )


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from(SHAPES),
    st.sampled_from((20.0, 60.0, 150.0)),
    st.sampled_from((6_000, 200_000)),
    st.sampled_from((1, 16)),
    st.integers(0, 1_000),
)
def test_no_policy_exceeds_the_bound(
    shape: tuple[int, int, int], rate_per_s: float, capacity: int, page_tokens: int, seed: int
) -> None:
    requests = list(poisson(120, rate_per_s, seed=seed))
    engine = {"kv_capacity_tokens": capacity, "page_tokens": page_tokens}
    spec = dataclasses.replace(_cluster(shape), engine=engine)
    bound = upper_bound(spec, requests, PROFILE)
    for policy in dict.fromkeys((POLICY_NAME, *POLICY_NAMES)):
        result = simulate(dataclasses.replace(spec, policy=policy), requests, profile=PROFILE)
        num_attained = sum(record.is_attained for record in result.records)
        assert num_attained <= bound.num_kept, policy


@pytest.mark.parametrize("shape", [(4, 0, 0), (0, 2, 2)])
@pytest.mark.parametrize("load_factor", [3.0, 30.0])
def test_measured_tables_and_the_default_workload(
    shape: tuple[int, int, int], load_factor: float
) -> None:
    requests = list(load_workload("mixed").plan(seed=3, load_factor=load_factor, num_requests=600))
    spec = _cluster(shape)
    bound = upper_bound(spec, requests, load_profile(spec.profile))
    for policy in (POLICY_NAME, "round_robin", "cache_aware"):
        result = simulate(dataclasses.replace(spec, policy=policy), requests)
        num_attained = sum(record.is_attained for record in result.records)
        assert num_attained <= bound.num_kept
    assert (bound.num_kept < len(requests)) == (load_factor == 30.0)
