"""The SLO-aware scheduler in the simulator."""

from dataclasses import replace
from pathlib import Path

import pytest

from hfx_sgl.results.reader import read_run
from hfx_sgl.results.record import Status
from hfx_sgl.sim.cli import main
from hfx_sgl.sim.run import SimResult, simulate
from hfx_sgl.sim.spec import SimSpec
from hfx_sgl.workload.load import load_workload

PAIRS = SimSpec(num_prefill=2, num_decode=2, sample_interval_s=None)
UNIFIED = SimSpec(num_workers=4, sample_interval_s=None)


def run(load_factor: float, policy: str, shape: SimSpec) -> SimResult:
    requests = load_workload("mixed").plan(seed=1, duration_s=60.0, load_factor=load_factor)
    return simulate(replace(shape, policy=policy), requests)


def attainment(result: SimResult) -> float:
    return sum(record.is_attained for record in result.records) / len(result.records)


@pytest.mark.parametrize("shape", [PAIRS, UNIFIED], ids=["pairs", "unified"])
def test_light_load_keeps_every_promise(shape: SimSpec) -> None:
    result = run(1.0, "hfx", shape)
    assert attainment(result) > 0.98
    assert {record.status for record in result.records} == {Status.OK}


@pytest.mark.parametrize("shape", [PAIRS, UNIFIED], ids=["pairs", "unified"])
def test_overload_costs_some_their_promise_and_nobody_the_answer(shape: SimSpec) -> None:
    result = run(9.0, "hfx", shape)
    blind = run(9.0, "cache_aware", shape)
    assert {record.status for record in result.records} == {Status.OK}
    assert attainment(result) > 0.7
    assert attainment(result) > 2 * attainment(blind)


def test_equal_seeds_give_equal_runs(tmp_path: Path) -> None:
    for name in ("one", "two"):
        flags = ["--policy", "hfx", "--prefill", "1", "--decode", "1", "--duration", "20"]
        assert (
            main([*flags, "--load-factor", "3", "--quiet", "--output", str(tmp_path / name)]) == 0
        )
    for file in ("records.jsonl", "summary.json", "run.json"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
    assert read_run(tmp_path / "one").info.policy == "hfx"


def test_a_policy_for_one_pool_alone_does_not_go_with_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--policy", "hfx", "--prefill", "1", "--decode", "1", "--decode-policy", "random"]
    assert main([*flags, "--output", str(tmp_path / "run")]) == 2
    assert "--decode-policy: hfx decides for both pools" in capsys.readouterr().err
