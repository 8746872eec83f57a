"""Figures of scripts/bench_scheduler: pooled outcomes, curves, targets and bounds."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from scheduler_runs.bounds import read_bounds
from scheduler_runs.curve import Sustained, first_load, sustained_load
from scheduler_runs.outcome import Outcome, pooled
from scheduler_runs.sweep import Breakdown, SweepResult
from scheduler_runs.targets import Target, judge
from scheduler_runs.targets_page import targets_page
from support.runs import make_run

from hfx_sgl.errors import ConfigError


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([(1.0, 1.0), (2.0, 0.95), (3.0, 0.85)], Sustained(2.5, False)),
        ([(1.0, 1.0), (2.0, 0.9)], Sustained(2.0, True)),
        ([(1.0, 1.0), (2.0, 0.8), (3.0, 1.0)], Sustained(1.5, False)),
        ([(2.0, 0.8)], Sustained(1.0, False)),
    ],
)
def test_sustained_load_is_where_the_curve_first_crosses(
    points: list[tuple[float, float]], expected: Sustained
) -> None:
    found = sustained_load(points, 0.9)
    assert found.load_factor == pytest.approx(expected.load_factor)
    assert found.is_beyond is expected.is_beyond


def test_a_load_that_was_not_reached_is_said_to_be_over() -> None:
    assert str(Sustained(8.0, True)) == "over 8.00x"
    assert str(Sustained(4.815, False)) == "4.82x"


@pytest.mark.parametrize("threshold", [4.1, 4.4, 4.95, 5.0])
def test_bisection_finds_the_first_tenth(threshold: float) -> None:
    tried = []

    def is_under(load_factor: float) -> bool:
        tried.append(load_factor)
        return load_factor >= threshold

    found = first_load(is_under, 4.0, 5.0)
    assert found >= threshold
    assert found - threshold < 0.1
    assert len(tried) <= 4
    assert all(4.0 < load_factor < 5.0 for load_factor in tried)


def outcome(attained: int, *, code: int | None = None, e2e_s: float = 1.0) -> Outcome:
    """Return one of 1,000 chat and 100 code requests; so many of them attained."""
    num_code = attained // 10 if code is None else code
    return Outcome(
        num_requests=1_100,
        num_attained=attained + num_code,
        num_completed=1_100,
        total_e2e_s=1_100 * e2e_s,
        classes={"chat": (1_000, attained), "code": (100, num_code)},
        attained_by_seed={},
    )


def result(
    own: dict[float, Outcome],
    other: dict[float, Outcome],
    breakdown: Breakdown | None = None,
    cluster: str = "2P+2D",
) -> SweepResult:
    """Return a sweep of hfx and round_robin."""
    outcomes = {(cluster, "hfx", load): each for load, each in own.items()}
    outcomes |= {(cluster, "round_robin", load): each for load, each in other.items()}
    return SweepResult(
        outcomes=outcomes,
        load_factors=tuple(sorted(own)),
        breakdowns={} if breakdown is None else {cluster: breakdown},
        runs=[make_run()],
    )


def targets_of(
    sweep: SweepResult, bounds: dict[tuple[str, float], float] | None = None
) -> dict[str, Target]:
    """Return the targets by the beginning of what they are about."""
    return {target.what.split(" ")[0]: target for target in judge(sweep, bounds)}


def test_never_worse_is_judged_at_the_worst_load() -> None:
    sweep = result(
        {1.0: outcome(1_000), 2.0: outcome(990, code=97)},
        {1.0: outcome(990), 2.0: outcome(980, code=99)},
    )
    overall, worst = judge(sweep, None)[:2]
    assert overall.is_reached is True
    assert overall.figure.startswith("+0.73 points at 2x against round_robin; worse at 0 of 2")
    assert worst.is_reached is False
    assert worst.figure.startswith("-1.00 points at 2x against round_robin; worse at 1 of 2")


def test_loads_without_baselines_do_not_count() -> None:
    sweep = result({1.0: outcome(1_000), 12.0: outcome(10)}, {1.0: outcome(1_000)})
    assert all(target.is_reached for target in judge(sweep, None)[:2])


@pytest.mark.parametrize(
    ("cluster", "own", "is_reached"),
    [
        ("2P+2D", {4.0: 1_000, 8.0: 800}, False),
        ("4", {4.0: 1_000, 8.0: 800}, True),
        ("2P+2D", {4.0: 1_000, 8.0: 850, 12.0: 0}, False),
        ("2P+2D", {4.0: 1_000, 8.0: 1_000, 12.0: 800}, True),
        ("2P+2D", {4.0: 1_000, 5.0: 1_000}, None),
    ],
)
def test_sustained_load_has_a_goal_for_each_shape(
    cluster: str, own: dict[float, int], is_reached: bool | None
) -> None:
    sweep = result(
        {load: outcome(attained) for load, attained in own.items()},
        {3.0: outcome(1_000), 5.0: outcome(800)},
        cluster=cluster,
    )
    sweep = replace(sweep, load_factors=(*sweep.load_factors, 3.0, 5.0))
    sweep = replace(sweep, load_factors=tuple(sorted(set(sweep.load_factors))))
    assert targets_of(sweep)["load"].is_reached is is_reached


def test_the_breakdown_is_judged_by_ratios() -> None:
    found = Breakdown(load_factor=6.1, beyond=7.32)
    sweep = result(
        {6.1: outcome(880), 7.32: outcome(700)},
        {6.1: outcome(200), 7.32: outcome(99)},
        found,
    )
    first, beyond = (target for target in judge(sweep, None) if target.what.startswith("attained"))
    assert (first.is_reached, beyond.is_reached) == (False, True)
    assert first.figure == "4.40x at 6.1x (88.0 % against 20.0 %)"
    assert beyond.figure.startswith("7.1")


def test_without_a_breakdown_nobody_can_tell() -> None:
    sweep = result({1.0: outcome(1_000)}, {1.0: outcome(1_000)})
    unknown = [target for target in judge(sweep, None) if target.is_reached is None]
    assert len(unknown) == 4  # the sustained load of neither is known, nor the other three
    assert {target.figure for target in unknown[1:]} == {"not measured"}


@pytest.mark.parametrize(
    ("own_s", "num_completed", "is_reached"),
    [(3.4, 1_100, True), (3.6, 1_100, False), (3.4, 1_099, False)],
)
def test_end_to_end_is_judged_where_round_robin_is_lost(
    own_s: float, num_completed: int, is_reached: bool
) -> None:
    own = outcome(900, e2e_s=own_s)
    own = replace(own, num_completed=num_completed, total_e2e_s=num_completed * own_s)
    sweep = result(
        {5.0: outcome(900, e2e_s=99.0), 7.0: own},
        {5.0: outcome(200, e2e_s=10.0), 7.0: outcome(90, e2e_s=10.0)},
    )
    assert targets_of(sweep)["mean"].is_reached is is_reached


def test_the_share_of_the_bound_is_the_least() -> None:
    sweep = result({4.0: outcome(1_000), 8.0: outcome(800)}, {4.0: outcome(1_000)})
    bounds = {("2P+2D", 4.0): 1.0, ("2P+2D", 8.0): 0.9, ("4", 4.0): 0.1}
    (target,) = (each for each in judge(sweep, bounds) if "clairvoyant" in each.what)
    assert target.figure == "88.9% at 8x, the least of 2 loads"
    assert target.is_reached is False
    (target,) = (each for each in judge(sweep, {}) if "clairvoyant" in each.what)
    assert target.is_reached is None


def test_the_page_shows_targets_and_figures() -> None:
    sweep = result({4.0: outcome(1_000), 8.0: outcome(800)}, {4.0: outcome(900)})
    bounds = {("2P+2D", 8.0): 0.97}
    page = targets_page(sweep, judge(sweep, bounds), bounds, "Everything is known.")
    assert "| hfx | 100.0 | 80.0 |" in page
    assert "| round_robin | 90.0 | - |" in page
    assert "| clairvoyant bound | - | 97.0 |" in page
    assert "| 2P+2D | all requests: never worse than the best baseline at any load |" in page
    assert "Everything is known." in page


def test_outcomes_are_pooled_over_all_arrivals() -> None:
    few = make_run(seed=1, attained={"chat": (10, 5), "code": (10, 10)}, mean_e2e_ms=1_000.0)
    many = make_run(seed=2, attained={"chat": (90, 90)}, mean_e2e_ms=3_000.0, num_failed=10)
    both = pooled([few, many])
    assert (both.num_requests, both.num_attained, both.num_completed) == (110, 105, 100)
    assert both.num_incomplete == 10
    assert both.attainment == 105 / 110
    assert both.worst_class == ("chat", 0.95)
    assert both.mean_e2e_s == pytest.approx((20 * 1.0 + 80 * 3.0) / 100)
    assert both.attained_by_seed == {1: 0.75, 2: 1.0}


def test_bounds_are_means_by_requests(tmp_path: Path) -> None:
    path = tmp_path / "bounds.json"
    bounds = [
        {"cluster": "4", "load_factor": 6.0, "attainment": 1.0, "num_requests": 300, "seed": 1},
        {"cluster": "4", "load_factor": 6.0, "attainment": 0.8, "num_requests": 100, "seed": 2},
        {"cluster": "2P+2D", "load_factor": 6.0, "attainment": 0.5},
    ]
    path.write_text(json.dumps({"bounds": bounds, "assumptions": "All."}))
    found, assumptions = read_bounds(path)
    assert found == {("4", 6.0): pytest.approx(0.95), ("2P+2D", 6.0): 0.5}
    assert assumptions == "All."


@pytest.mark.parametrize("content", [None, "{}", "[1]", '{"bounds": [{"cluster": "4"}]}'])
def test_a_bad_file_of_bounds_is_refused(content: str | None, tmp_path: Path) -> None:
    path = tmp_path / "bounds.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match="--bounds: "):
        read_bounds(path)
