"""Recursive least squares: what it learns, what it keeps and what it distrusts."""

import random

import pytest

from hfx_sgl.policy.latency.config import FitConfig
from hfx_sgl.policy.latency.linear_algebra import cholesky, solve
from hfx_sgl.policy.latency.rls import RecursiveLeastSquares

TRUTH = (3.0, 0.5, 0.02)
PRIOR = (1.0, 1.0, 0.01)


def make_rls(prior: tuple[float, ...] = PRIOR, **settings: float) -> RecursiveLeastSquares:
    return RecursiveLeastSquares(prior, prior, FitConfig(**settings))  # type: ignore[arg-type]


def target_of(features: tuple[float, ...], truth: tuple[float, ...] = TRUTH) -> float:
    return sum(a * b for a, b in zip(truth, features, strict=True))


def draw(rng: random.Random) -> tuple[float, ...]:
    return 1.0, rng.uniform(0, 20), rng.uniform(0, 2000)


def test_exact_observations_give_the_exact_coefficients() -> None:
    rls, rng = make_rls(), random.Random(1)
    for _ in range(300):
        features = draw(rng)
        rls.observe(features, target_of(features))
    assert rls.coefficients == pytest.approx(TRUTH, rel=0.01)
    assert rls.num_observations == 300


@pytest.mark.parametrize("factor", [0.01, 0.1, 10.0, 100.0])
def test_the_prior_may_be_off_by_any_factor(factor: float) -> None:
    rls, rng = make_rls(), random.Random(2)
    truth = tuple(factor * value for value in TRUTH)
    for _ in range(60):
        features = draw(rng)
        rls.observe(features, target_of(features, truth))
    for features in [(1.0, 1.0, 5.0), (1.0, 20.0, 0.0), (1.0, 3.0, 2000.0)]:
        assert rls.predict(features) == pytest.approx(target_of(features, truth), rel=0.05)


def test_the_first_observations_only_scale_the_prior_by_the_lower_median() -> None:
    rls = make_rls()
    features = (1.0, 1.0, 100.0)
    prediction = rls.predict(features)
    for ratio, expected in [(2.0, 2.0), (50.0, 2.0), (3.0, 3.0)]:
        assert not rls.is_settled
        rls.observe(features, ratio * prediction)
        assert rls.coefficients == pytest.approx([expected * value for value in PRIOR])


def test_it_is_settled_after_the_first_five() -> None:
    rls = make_rls()
    for _ in range(5):
        assert not rls.is_settled
        rls.observe((1.0, 1.0, 1.0), 2.0)
    assert rls.is_settled


def test_equal_observations_scale_all_coefficients_much_alike() -> None:
    rls = make_rls()
    for _ in range(3000):
        rls.observe((1.0, 1.0, 100.0), 9.0)
    assert rls.predict((1.0, 1.0, 100.0)) == pytest.approx(9.0, rel=1e-3)
    assert rls.coefficients == pytest.approx([3 * value for value in PRIOR], rel=0.1)


def test_what_is_not_seen_any_more_is_not_forgotten() -> None:
    rls, rng = make_rls(), random.Random(3)
    for _ in range(300):
        features = draw(rng)
        rls.observe(features, target_of(features))
    for _ in range(3000):
        rls.observe((1.0, 2.0, 10.0), target_of((1.0, 2.0, 10.0)) * rng.gauss(1, 0.05))
    far = (1.0, 20.0, 2000.0)
    assert rls.predict(far) == pytest.approx(target_of(far), rel=0.15)


def test_a_coefficient_that_does_not_matter_ends_at_zero_or_above() -> None:
    rls, rng = make_rls(), random.Random(4)
    truth = (3.0, 0.0, 0.02)
    for _ in range(300):
        features = draw(rng)
        rls.observe(features, target_of(features, truth) * rng.gauss(1, 0.05))
        assert min(rls.coefficients) >= 0.0
    assert 0.0 <= rls.coefficients[1] < 0.1
    assert rls.predict((1.0, 20.0, 0.0)) == pytest.approx(3.0, rel=0.3)


def test_an_outlier_counts_as_a_few_usual_residuals() -> None:
    rls, rng = make_rls(), random.Random(5)
    for _ in range(200):
        features = draw(rng)
        rls.observe(features, target_of(features) * rng.gauss(1, 0.05))
    features = (1.0, 10.0, 1000.0)
    before = rls.predict(features)
    assert rls.observe(features, 100 * before) == pytest.approx(3.0)
    assert rls.predict(features) == pytest.approx(before, rel=0.02)


def test_distrust_follows_a_change_of_size_at_once_and_keeps_the_proportions() -> None:
    rls, rng = make_rls(), random.Random(6)
    for _ in range(300):
        features = draw(rng)
        rls.observe(features, target_of(features))
    before = rls.coefficients
    rls.distrust()
    for _ in range(3):
        rls.observe((1.0, 2.0, 10.0), 1.5 * target_of((1.0, 2.0, 10.0)))
    assert rls.predict((1.0, 2.0, 10.0)) == pytest.approx(
        1.5 * target_of((1.0, 2.0, 10.0)), rel=0.05
    )
    assert [new / old for new, old in zip(rls.coefficients, before, strict=True)] == pytest.approx(
        [1.5] * 3, rel=0.15
    )


def test_the_first_five_are_then_learnt_from() -> None:
    rls = make_rls()
    for features in [(1.0, 0.0, 0.0), (1.0, 20.0, 0.0), (1.0, 0.0, 2000.0)] * 2:
        rls.observe(features, target_of(features))
    assert rls.predict((1.0, 20.0, 2000.0)) == pytest.approx(53.0, rel=0.05)
    assert rls.predict((1.0, 0.0, 0.0)) == pytest.approx(3.0, rel=0.1)


@pytest.mark.parametrize(("spread_ratio", "low", "high"), [(0.02, 0.01, 0.06), (1.0, 0.09, 0.11)])
def test_a_saved_start_is_trusted_as_much_as_configured(
    spread_ratio: float, low: float, high: float
) -> None:
    config = FitConfig(saved_spread_ratio=spread_ratio)
    rls = RecursiveLeastSquares(TRUTH, PRIOR, config, is_saved=True)
    assert rls.is_settled
    features = (1.0, 10.0, 1000.0)
    rls.observe(features, 1.1 * target_of(features))
    assert low < rls.predict(features) / target_of(features) - 1.0 < high


def test_a_prediction_of_zero_is_learnt_from() -> None:
    rls = RecursiveLeastSquares((0.0, 1.0), (1.0, 1.0), FitConfig(), is_saved=True)
    assert rls.predict((1.0, 0.0)) == 0.0
    for _ in range(50):
        rls.observe((1.0, 0.0), 2.0)
    assert rls.predict((1.0, 0.0)) == pytest.approx(2.0, rel=0.1)


def test_with_forgetting_recent_observations_win() -> None:
    features = (1.0, 10.0, 1000.0)
    results = []
    for forgetting in (1.0, 0.9):
        rls = make_rls(forgetting_ratio=forgetting)
        for target in [10.0] * 100 + [10.5] * 20:
            rls.observe(features, target)
        results.append(rls.predict(features))
    assert results[0] == pytest.approx(10.08, abs=0.03)
    assert results[1] == pytest.approx(10.44, abs=0.03)


def test_solve_inverts_the_product() -> None:
    matrix = [[4.0, 1.0, 0.5], [1.0, 3.0, 0.2], [0.5, 0.2, 2.0]]
    solution = [1.0, -2.0, 3.0]
    right = [sum(a * b for a, b in zip(row, solution, strict=True)) for row in matrix]
    assert solve(cholesky(matrix), right) == pytest.approx(solution)


def test_a_singular_matrix_gives_a_finite_solution() -> None:
    lower = cholesky([[1.0, 1.0], [1.0, 1.0]])
    solution = solve(lower, [2.0, 2.0])
    assert sum(solution) == pytest.approx(2.0)
    assert max(map(abs, solution)) < 10.0
