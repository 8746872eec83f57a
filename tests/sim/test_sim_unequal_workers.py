"""Workers of one cluster can differ: in their step times, and in all that a profile says."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.simulated import LinearStepTimes, linear_profile, planned

from hfx_sgl.engine.profile import load_profile
from hfx_sgl.engine.step_times.times import PrefillPart
from hfx_sgl.errors import ConfigError
from hfx_sgl.results.reader import read_run
from hfx_sgl.sim.cli import main
from hfx_sgl.sim.run import simulate
from hfx_sgl.sim.scaled_times import ScaledStepTimes
from hfx_sgl.sim.spec import SimSpec
from hfx_sgl.sim.worker import make_workers
from hfx_sgl.types import Role

OTHER = "qwen3-30b-a3b_h100_tp1"
PARTS = [PrefillPart(900, 100), PrefillPart(40, 0)]


def test_every_time_is_multiplied() -> None:
    times, scaled = LinearStepTimes(), ScaledStepTimes(LinearStepTimes(), 2.5)
    assert scaled.prefill_s(PARTS) == 2.5 * times.prefill_s(PARTS)
    assert scaled.mixed_s(PARTS, 3, 700) == 2.5 * times.mixed_s(PARTS, 3, 700)
    assert scaled.decode_s(3, 700) == 2.5 * times.decode_s(3, 700)
    assert scaled.decode_steps_s(3, 700, 9) == 2.5 * times.decode_steps_s(3, 700, 9)


@pytest.mark.parametrize("scale", [0.3, 0.8, 1.7])
@pytest.mark.parametrize("overhead_s", [0.0, 0.0008])
def test_as_many_steps_fit_as_their_times_say(scale: float, overhead_s: float) -> None:
    scaled = ScaledStepTimes(LinearStepTimes(), scale)
    for duration_s in (0.001, 0.05, 0.731, 4.0):
        num = scaled.decode_steps_within(5, 9_000, overhead_s, duration_s)
        assert scaled.decode_steps_s(5, 9_000, num) + num * overhead_s <= duration_s
        more = num + 1
        assert scaled.decode_steps_s(5, 9_000, more) + more * overhead_s > duration_s


def alone(spec: SimSpec) -> dict[str, float]:
    """Return TTFT by prefilling worker and TPOT by answering one, of prompts that meet nobody."""
    requests = [planned(i, 9.0 * i, prompt_tokens=4_000, output_tokens=80) for i in range(4)]
    records = simulate(spec, requests, profile=linear_profile()).records
    times = {f"first {record.prefill_worker or record.worker}": record.ttft_s for record in records}
    times |= {f"then {record.worker}": record.tpot_s for record in records}
    return {name: time_s for name, time_s in times.items() if time_s is not None}


def test_scales_belong_to_workers_in_order_prefill_first() -> None:
    shape = SimSpec(num_prefill=2, num_decode=2, policy="round_robin", sample_interval_s=None)
    usual = alone(shape)
    unequal = alone(replace(shape, time_scales=(1.0, 3.0, 1.0, 2.0)))
    assert unequal["first prefill-0"] == usual["first prefill-0"]
    assert unequal["then decode-0"] == usual["then decode-0"]
    assert unequal["first prefill-1"] > 2.5 * usual["first prefill-1"]
    assert 1.7 * usual["then decode-1"] < unequal["then decode-1"] < 2 * usual["then decode-1"]


def test_workers_beyond_the_scales_are_as_measured() -> None:
    shape = SimSpec(num_workers=3, policy="round_robin", sample_interval_s=None)
    usual, unequal = alone(shape), alone(replace(shape, time_scales=(0.5,)))
    assert unequal["first regular-0"] < 0.6 * usual["first regular-0"]
    assert unequal["first regular-1"] == usual["first regular-1"]
    assert unequal["then regular-2"] == usual["then regular-2"]


def test_a_worker_can_have_a_profile_of_its_own() -> None:
    spec = SimSpec(num_workers=2, worker_profiles=(OTHER,))
    pools = make_workers(spec, linear_profile(), [load_profile(OTHER)])
    rooms = [worker.engine.load(0.0).max_total_num_tokens for worker in pools[Role.REGULAR]]
    assert rooms == [load_profile(OTHER).kv_capacity_tokens, linear_profile().kv_capacity_tokens]


def test_profiles_of_workers_are_used_and_written_down(tmp_path: Path) -> None:
    flags = ["--workers", "2", "--policy", "round_robin", "--num-requests", "40", "--quiet"]
    other = ["--worker-profiles", "llama31-8b_a100_tp1", "--time-scales", "1", "1.5"]
    assert main([*flags, "--output", str(tmp_path / "usual")]) == 0
    assert main([*flags, *other, "--output", str(tmp_path / "other")]) == 0
    usual, unequal = read_run(tmp_path / "usual"), read_run(tmp_path / "other")
    assert unequal.info.settings["worker_profiles"] == "llama31-8b_a100_tp1"
    assert unequal.info.settings["time_scales"] == "1 1.5"
    assert not {"worker_profiles", "time_scales"} & usual.info.settings.keys()
    for before, after in zip(usual.records(), unequal.records(), strict=True):
        assert before.worker == after.worker
        assert (after.ttft_s or 0.0) > 1.2 * (before.ttft_s or 0.0)


def test_steps_outside_of_the_range_of_any_profile_are_counted() -> None:
    """Nobody measured batches of more than 512 requests; only the first worker has tables."""
    spec = SimSpec(
        num_workers=2,
        policy="round_robin",
        worker_profiles=(OTHER,),
        engine={"max_running_requests": 700},
        sample_interval_s=None,
    )
    requests = [planned(i, 0.0, prompt_tokens=10, output_tokens=60) for i in range(1_300)]
    num_extrapolated = [
        simulate(spec, requests[:num], profile=linear_profile()).totals.num_extrapolated
        for num in (2, 1_300)
    ]
    assert num_extrapolated[0] == 0 < num_extrapolated[1]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"time_scales": (1.0, 0.0)}, "--time-scales: must be more than 0"),
        ({"time_scales": (1.0, 1.0, 1.0)}, "--time-scales: more than there are workers (3 > 2)"),
        ({"worker_profiles": (OTHER,) * 3}, "--worker-profiles: more than there are workers"),
    ],
)
def test_what_fits_no_cluster_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        SimSpec(num_workers=2, **fields)
    assert message in str(caught.value)
