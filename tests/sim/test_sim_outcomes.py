"""What comes out of a simulation: exact times of one request, and one record for each arrival."""

import math
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from support.simulated import BoundedStepTimes, linear_profile, planned, poisson

from hfx_sgl.engine.profile import EngineProfile
from hfx_sgl.engine.step_times.times import PrefillPart
from hfx_sgl.errors import ConfigError
from hfx_sgl.policy.selection.catalog import POLICY_NAMES
from hfx_sgl.results.record import RequestRecord, Status
from hfx_sgl.sim.run import SimResult, simulate
from hfx_sgl.sim.spec import SimSpec
from hfx_sgl.types import Role
from hfx_sgl.workload.planned import PlannedRequest

UNIFIED: dict[str, Any] = {"num_workers": 3}
PD: dict[str, Any] = {"num_prefill": 2, "num_decode": 2}
NETWORK_S = 0.003
HANDSHAKE_S = 0.002


def run(requests: list[PlannedRequest], **settings: Any) -> SimResult:
    spec = SimSpec(network_s=NETWORK_S, handshake_s=HANDSHAKE_S, **settings)
    return simulate(spec, requests, profile=linear_profile())


def computed_s(role: Role, num_prompt_tokens: int, num_output_tokens: int) -> tuple[float, float]:
    """Time of prefill and decode of a request that is alone."""
    profile = linear_profile()
    spec = profile.make_spec(role)
    step_s = spec.host_overhead_s + spec.host_overhead_per_request_s
    steps = profile.step_times
    num_steps = num_output_tokens - 1
    decode_s = steps.decode_steps_s(1, num_prompt_tokens, num_steps) + num_steps * step_s
    return steps.prefill_s([PrefillPart(num_prompt_tokens, 0)]) + step_s, decode_s


def test_a_request_that_is_alone_takes_the_time_of_its_steps() -> None:
    (record,) = run([planned(0, 5.0, prompt_tokens=1000, output_tokens=21)], num_workers=1).records
    prefill_s, decode_s = computed_s(Role.REGULAR, 1000, 21)
    assert record.status is Status.OK
    assert record.sent_at_s == 5.0
    assert record.ttft_s == pytest.approx(2 * NETWORK_S + prefill_s)
    assert record.e2e_s == pytest.approx(2 * NETWORK_S + prefill_s + decode_s, rel=0.01)
    assert record.tpot_s == pytest.approx(decode_s / 20, rel=0.01)
    assert (record.output_tokens, record.worker, record.prefill_worker) == (21, "regular-0", None)


def test_a_pair_adds_handshake_and_transfer_to_the_first_token() -> None:
    requests = [planned(0, 5.0, prompt_tokens=1000, output_tokens=21)]
    (record,) = run(requests, num_prefill=1, num_decode=1).records
    prefill_s, decode_s = computed_s(Role.PREFILL, 1000, 21)
    spec = linear_profile().make_spec(Role.PREFILL)
    transfer_s = spec.handoff_latency_s + 1000 * spec.kv_bytes_per_token / spec.handoff_bytes_per_s
    first_s = 2 * NETWORK_S + HANDSHAKE_S + prefill_s + transfer_s
    assert record.ttft_s == pytest.approx(first_s, rel=0.02)
    assert record.tpot_s == pytest.approx(decode_s / 20, rel=0.02)
    assert (record.prefill_worker, record.worker) == ("prefill-0", "decode-0")
    assert record.output_tokens == 21


@pytest.mark.parametrize("shape", [UNIFIED, PD], ids=["unified", "pd"])
@pytest.mark.parametrize("policy", POLICY_NAMES)
def test_every_arrival_has_one_record_with_every_policy(shape: dict[str, Any], policy: str) -> None:
    requests = list(poisson(300, 20.0))
    records = run(requests, policy=policy, **shape).records
    assert [record.request_id for record in records] == [each.request_id for each in requests]
    assert {record.status for record in records} == {Status.OK}
    assert [r.output_tokens for r in records] == [each.num_output_tokens for each in requests]
    assert len({record.worker for record in records}) > 1


def test_bucket_chooses_prefill_workers() -> None:
    result = run(list(poisson(300, 20.0)), prefill_policy="bucket", policy="least_load", **PD)
    assert {record.status for record in result.records} == {Status.OK}
    assert Counter(r.prefill_worker for r in result.records).keys() == {"prefill-0", "prefill-1"}


@pytest.mark.parametrize("shape", [UNIFIED, PD], ids=["unified", "pd"])
def test_littles_law(shape: dict[str, Any]) -> None:
    """Mean number in the system is arrival rate times mean time in it."""
    requests = list(poisson(2000, 10.0, max_output_tokens=200))
    result = run(requests, policy="least_load", sample_interval_s=0.05, **shape)
    busy_s = max(each.at_s for each in requests)
    answering = {record.worker for record in result.records}
    present: Counter[float] = Counter()
    for sample in result.samples:
        present[sample.at_s] += sample.num_running_reqs * (sample.worker in answering)
    during = [num for at_s, num in present.items() if at_s < busy_s]
    mean_running = sum(during) / len(during)
    decoding_s = sum((r.e2e_s or 0.0) - (r.ttft_s or 0.0) for r in result.records)
    assert mean_running == pytest.approx(decoding_s / busy_s, rel=0.1)


def test_what_is_left_after_the_drain_has_timed_out() -> None:
    requests = [planned(0, 0.0), planned(1, 1.0, output_tokens=10_000)]
    records = run(requests, num_workers=1, max_drain_s=2.0).records
    assert [record.status for record in records] == [Status.OK, Status.TIMED_OUT]
    late = records[1]
    assert late.e2e_s is None
    assert late.ttft_s is not None
    assert late.output_tokens == pytest.approx(2.0 / 0.0068, rel=0.05)


def test_a_full_queue_rejects() -> None:
    requests = [planned(i, 1.0, prompt_tokens=5000, output_tokens=50) for i in range(40)]
    engine = {"max_queued_requests": 4, "max_running_requests": 4}
    result = run(requests, engine=engine, num_workers=1)
    counts = Counter(record.status for record in result.records)
    assert counts.keys() == {Status.OK, Status.REJECTED}
    assert counts[Status.OK] >= 4
    rejected = next(r for r in result.records if r.status is Status.REJECTED)
    assert rejected.error is not None
    assert "queue_full" in rejected.error
    assert rejected.worker is not None


def test_a_prompt_beyond_the_kv_room_fails() -> None:
    requests = [planned(0, 0.0), planned(1, 0.5, prompt_tokens=9000)]
    result = run(requests, num_workers=1, engine={"kv_capacity_tokens": 4096})
    assert [record.status for record in result.records] == [Status.OK, Status.FAILED]


def test_a_prompt_beyond_the_context_is_refused_before_it_starts() -> None:
    with pytest.raises(ConfigError, match="--context-length: request r1 of class chat"):
        run([planned(0, 0.0), planned(1, 0.5, prompt_tokens=40_000)], num_workers=1)


def test_extrapolated_step_times_are_told() -> None:
    profile: EngineProfile = linear_profile(BoundedStepTimes())
    result = simulate(SimSpec(num_workers=1), [planned(0, 0.0)], profile=profile)
    assert result.totals.num_extrapolated > 0
    assert "extrapolated" in result.totals.problems[0]
    assert run([planned(0, 0.0)], num_workers=1).totals.problems == ()


def test_a_workload_without_requests_ends() -> None:
    result = run([], num_workers=1)
    assert result.records == ()
    assert result.totals.num_requests == 0


def test_prefix_hits_are_reported() -> None:
    requests = [planned(i, float(i), prefix=3) for i in range(2)]
    first, second = run(requests, num_workers=1).records
    assert first.cached_tokens == 0
    assert second.cached_tokens >= 240


@pytest.mark.parametrize(
    ("settings", "flag"),
    [
        ({}, "--workers"),
        ({"num_workers": -1}, "--workers"),
        ({"num_prefill": 2}, "--decode"),
        ({"num_decode": 2}, "--prefill"),
        ({"num_workers": 1, "num_prefill": 1, "num_decode": 1}, "--workers"),
        ({"num_workers": 1, "prefill_policy": "random"}, "--prefill-policy"),
        ({"num_workers": 1, "decode_policy": "random"}, "--decode-policy"),
        ({"num_workers": 1, "policy": "bucket"}, "--policy"),
        ({"num_prefill": 1, "num_decode": 1, "decode_policy": "bucket"}, "--decode-policy"),
        ({"num_workers": 1, "network_s": -1.0}, "--network-s"),
        ({"num_workers": 1, "handshake_s": math.nan}, "--handshake-s"),
        ({"num_workers": 1, "sample_interval_s": 0.0}, "--sample-interval-s"),
    ],
)
def test_impossible_clusters_are_refused_by_flag(settings: dict[str, Any], flag: str) -> None:
    with pytest.raises(ConfigError, match=f"^{flag}: "):
        SimSpec(**settings)


def test_an_unknown_policy_is_refused() -> None:
    with pytest.raises(ConfigError, match="no_such"):
        run([planned(0, 0.0)], num_workers=1, policy="no_such")


def test_shapes_and_policies_have_names() -> None:
    spec = SimSpec(num_prefill=2, num_decode=1, policy="least_load")
    assert (spec.shape, spec.policy_label) == ("2P+1D", "least_load")
    mixed = replace(spec, prefill_policy="cache_aware")
    assert mixed.policy_label == "cache_aware+least_load"
    assert SimSpec(num_workers=4).shape == "4"


def ended_at_s(record: RequestRecord) -> float:
    return record.sent_at_s + (record.e2e_s or 0.0)


def test_the_run_ends_with_the_last_answer() -> None:
    result = run(list(poisson(50, 5.0)), **UNIFIED)
    last_s = max(map(ended_at_s, result.records))
    assert result.totals.ended_at_s == pytest.approx(last_s)


def test_looking_at_workers_changes_nothing() -> None:
    requests = list(poisson(200, 30.0))
    seldom = run(requests, sample_interval_s=None, **PD)
    often = run(requests, sample_interval_s=0.01, **PD)
    assert seldom.records == often.records
    assert len(often.samples) > 1000
    assert seldom.samples == ()
