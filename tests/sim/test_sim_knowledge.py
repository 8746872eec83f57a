"""What the scheduler of a simulation is told: estimates, and reports that are late or lost."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.scripted_scheduler import ScriptedScheduler, dispatch
from support.simulated import linear_profile, planned

from hfx_sgl.errors import ConfigError
from hfx_sgl.policy.latency.snapshot import LatencySnapshot, ModelSnapshot
from hfx_sgl.policy.scheduler.config import SchedulerConfig
from hfx_sgl.policy.scheduler.facts import Action, RequestFacts, WorkerReport
from hfx_sgl.results.reader import read_run
from hfx_sgl.sim import slo_router
from hfx_sgl.sim.cli import main
from hfx_sgl.sim.knowledge import Knowledge
from hfx_sgl.sim.run import simulate
from hfx_sgl.sim.simulation import Simulation
from hfx_sgl.sim.sink import MemorySink
from hfx_sgl.sim.slo_router import SloRouter
from hfx_sgl.sim.spec import SimSpec
from hfx_sgl.sim.worker import make_workers
from hfx_sgl.workload.planned import PlannedRequest

SPEC = SimSpec(num_workers=2, policy="hfx", sample_interval_s=None)
NUM_REQUESTS = 40
REQUESTS = [planned(i, 0.75 * i, prompt_tokens=3_000 + i) for i in range(NUM_REQUESTS)]


class Told:
    """What a scheduler that sends everything to the first worker was told, and when."""

    def __init__(
        self, knowledge: Knowledge, monkeypatch: pytest.MonkeyPatch, *, seed: int = 0
    ) -> None:
        scheduler = ScriptedScheduler()
        monkeypatch.setattr(slo_router, "Scheduler", lambda config, models: scheduler)
        self.reports_at_s: list[tuple[float, str]] = []
        num_seen = num_sent = 0

        def decide(now_s: float) -> list[Action]:
            nonlocal num_seen, num_sent
            new = scheduler.reports[num_seen:]
            self.reports_at_s += [(now_s, worker_id) for worker_id, _ in new]
            num_seen = len(scheduler.reports)
            waiting = scheduler.arrived[num_sent:]
            num_sent = len(scheduler.arrived)
            return [dispatch(facts.request_id, "regular-0") for facts in waiting]

        scheduler.decide = decide
        pools = make_workers(SPEC, linear_profile())
        router = SloRouter(pools, None, knowledge, seed)
        Simulation(SPEC, pools, router, REQUESTS, MemorySink()).run()
        self.arrived: Sequence[RequestFacts] = scheduler.arrived
        self.reports: Sequence[tuple[str, WorkerReport]] = scheduler.reports

    def tokens_by_report(self) -> list[int]:
        """Return what the first worker's reports say that it had computed."""
        return [
            report.num_prefill_tokens
            for worker_id, report in self.reports
            if worker_id == "regular-0"
        ]


def test_every_worker_reports_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told(Knowledge(), monkeypatch)
    assert told.reports_at_s[:4] == [
        (1.0, "regular-0"), (1.0, "regular-1"), (2.0, "regular-0"), (2.0, "regular-1"),
    ]  # fmt: skip
    assert len(told.reports_at_s) == 2 * 29


def test_late_reports_are_as_old_as_they_are_late(monkeypatch: pytest.MonkeyPatch) -> None:
    fresh, late = (Told(Knowledge(report_delay_s=s), monkeypatch) for s in (0.0, 1.0))
    assert late.reports_at_s[:2] == [(2.0, "regular-0"), (2.0, "regular-1")]
    assert late.tokens_by_report() == fresh.tokens_by_report()[:-1]
    assert len(set(fresh.tokens_by_report())) > 20


@pytest.mark.parametrize(("ratio", "low", "high"), [(0.0, 58, 58), (0.5, 18, 40), (1.0, 0, 0)])
def test_some_reports_are_lost(
    ratio: float, low: int, high: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = Told(Knowledge(report_loss_ratio=ratio), monkeypatch)
    assert low <= len(told.reports) <= high


def test_the_seed_says_which_reports_are_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    knowledge = Knowledge(report_loss_ratio=0.5)
    one, same, other = (Told(knowledge, monkeypatch, seed=seed).reports_at_s for seed in (1, 1, 2))
    assert one == same
    assert one != other


def test_reports_can_be_silent_about_times(monkeypatch: pytest.MonkeyPatch) -> None:
    (told, silent) = (Told(Knowledge(tells_times=tells), monkeypatch) for tells in (True, False))
    assert silent.tokens_by_report() == told.tokens_by_report()
    assert max(report.prefill_busy_s for _, report in told.reports) > 1.0
    assert any(report.decode_moments for _, report in told.reports)
    assert {report.prefill_busy_s for _, report in silent.reports} == {0.0}
    assert not any(report.decode_moments for _, report in silent.reports)


def test_prompt_lengths_are_off_to_either_side(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = Told(Knowledge(), monkeypatch).arrived
    guessed = Told(Knowledge(prompt_error_ratio=0.2), monkeypatch).arrived
    again = Told(Knowledge(prompt_error_ratio=0.2), monkeypatch).arrived
    assert guessed == again
    assert [facts.num_prompt_tokens for facts in exact] == [3_000 + i for i in range(NUM_REQUESTS)]
    ratios = [
        guess.num_prompt_tokens / facts.num_prompt_tokens
        for guess, facts in zip(guessed, exact, strict=True)
    ]
    assert 0.799 < min(ratios) < 0.86
    assert 1.14 < max(ratios) < 1.201
    for guess, facts, ratio in zip(guessed, exact, ratios, strict=True):
        # The tokens of a block are estimated by the same ratio of bytes and tokens.
        assert guess.block_tokens == pytest.approx(ratio * facts.block_tokens, rel=1e-3)


def test_a_prompt_has_one_token_at_least(monkeypatch: pytest.MonkeyPatch) -> None:
    knowledge = Knowledge(prompt_error_ratio=0.9)
    shortest = [planned(i, 0.1 * i, prompt_tokens=1) for i in range(50)]
    ratios = [knowledge.estimate_ratio(request.request_id) for request in shortest]
    assert min(ratios) < 0.4  # would round to 0 tokens
    tokens = [facts.num_prompt_tokens for facts in _arrived(knowledge, shortest, monkeypatch)]
    assert set(tokens) == {1, 2}


def _arrived(
    knowledge: Knowledge, requests: Sequence[PlannedRequest], monkeypatch: pytest.MonkeyPatch
) -> Sequence[RequestFacts]:
    scheduler = ScriptedScheduler()
    monkeypatch.setattr(slo_router, "Scheduler", lambda config, models: scheduler)
    spec = replace(SPEC, max_drain_s=1.0)
    pools = make_workers(spec, linear_profile())
    Simulation(spec, pools, SloRouter(pools, None, knowledge), requests, MemorySink()).run()
    return scheduler.arrived


def saved(prefill_s: float) -> LatencySnapshot:
    """Return models of an engine whose prefills take so long, whatever their size."""

    def model(*coefficients: float) -> ModelSnapshot:
        return ModelSnapshot(
            coefficients=coefficients, num_observations=900, p90_ratio=1.0, mean_ratio=1.0
        )

    return LatencySnapshot(
        prefill=model(prefill_s, 0.0, 0.0, 0.0),
        decode=model(0.01, 0.0, 0.0, 0.0),
        transfer=model(0.001, 1e-10),
    )


def test_saved_models_are_started_from_and_kept_without_times() -> None:
    usual = saved(2.5)
    learnt = []
    for tells_times in (True, False):
        pools = make_workers(SPEC, linear_profile())
        config = SchedulerConfig(times_workers=tells_times)
        router = SloRouter(pools, config, Knowledge(saved_models=usual, tells_times=tells_times))
        assert router.learnt.prefill.coefficients == usual.prefill.coefficients
        Simulation(SPEC, pools, router, REQUESTS, MemorySink()).run()
        learnt.append(router.learnt.prefill.coefficients)
    assert learnt[0] != usual.prefill.coefficients
    assert learnt[1] == usual.prefill.coefficients


def test_what_a_spec_says_reaches_the_scheduler() -> None:
    """Models that expect seconds for each prompt send bursts to both workers evenly."""
    burst = [planned(i, 0.001 * i, prompt_tokens=2_000, slo=REQUESTS[0].slo) for i in range(30)]
    slow = replace(SPEC, knowledge=Knowledge(saved_models=saved(9.0), tells_times=False))
    usual = simulate(SPEC, burst, profile=linear_profile()).records
    wary = simulate(slow, burst, profile=linear_profile()).records
    assert usual != wary


def test_flags_reach_the_run_and_are_written_down(tmp_path: Path) -> None:
    flags = ["--workers", "1", "--policy", "hfx", "--num-requests", "20", "--quiet"]
    trouble = ["--report-delay-s", "0.5", "--report-loss", "0.25", "--prompt-error", "0.1"]
    assert main([*flags, *trouble, "--output", str(tmp_path / "run")]) == 0
    settings = read_run(tmp_path / "run").info.settings
    assert settings["report_delay_s"] == 0.5
    assert settings["report_loss_ratio"] == 0.25
    assert settings["prompt_error_ratio"] == 0.1
    assert settings["tells_times"] is True
    assert settings["saved_models"] is False


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"report_delay_s": -1.0}, "--report-delay-s: must be at least 0 (got -1.0)"),
        ({"report_loss_ratio": 1.5}, "--report-loss: must be between 0 and 1 (got 1.5)"),
        ({"prompt_error_ratio": 1.0}, "--prompt-error: must be between 0 and 0.9 (got 1.0)"),
    ],
)
def test_what_makes_no_sense_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Knowledge(**fields)
    assert str(caught.value) == message
