"""Running P90 and mean of actual over predicted time."""

import random

import pytest

from hfx_sgl.policy.latency.residual import Residual


def test_it_starts_with_what_is_assumed() -> None:
    residual = Residual()
    assert residual.p90_ratio == 1.5
    assert residual.mean_ratio == 1.0
    assert residual.num_observations == 0


@pytest.mark.parametrize("centre", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("spread", [0.03, 0.2])
def test_it_follows_the_quantile_and_the_mean(centre: float, spread: float) -> None:
    rng = random.Random(1)
    residual = Residual()
    quantiles = []
    for i in range(4000):
        residual.observe(2.0, 2.0 * centre * rng.lognormvariate(0.0, spread))
        if i >= 1000:
            quantiles.append(residual.p90_ratio)
    expected = centre * 2.718281828 ** (1.2816 * spread)
    assert sum(quantiles) / len(quantiles) == pytest.approx(expected, rel=0.02 + 0.05 * spread)
    assert residual.mean_ratio == pytest.approx(centre, rel=0.02 + 0.4 * spread)


@pytest.mark.parametrize(("first", "second"), [(1.0, 1.4), (1.4, 1.0), (8.0, 0.2), (0.2, 8.0)])
def test_it_forgets_within_a_few_hundred_observations(first: float, second: float) -> None:
    residual = Residual()
    for ratio in [first] * 1000 + [second] * 800:
        residual.observe(1.0, ratio)
    assert residual.p90_ratio == pytest.approx(second, rel=0.02)
    assert residual.mean_ratio == pytest.approx(second, rel=0.1)


def test_a_long_run_loses_no_precision() -> None:
    residual = Residual()
    for i in range(100_000):
        residual.observe(1.0, 1.3 if i % 5 == 0 else 0.9)
    assert residual.p90_ratio == pytest.approx(1.3, rel=0.02)
    assert residual.mean_ratio == pytest.approx(0.98, rel=0.02)
    assert residual.num_observations == 100_000


@pytest.mark.parametrize(("ratio", "expected"), [(1e-9, 0.125), (1e9, 8.0)])
def test_ratios_beyond_the_range_count_as_its_ends(ratio: float, expected: float) -> None:
    residual = Residual()
    for _ in range(1000):
        residual.observe(1.0, ratio)
    assert residual.p90_ratio == pytest.approx(expected, rel=0.03)
    assert residual.mean_ratio == pytest.approx(expected, rel=0.03)


def test_saved_values_are_where_it_goes_on() -> None:
    residual = Residual(1.2, 1.05)
    assert (residual.p90_ratio, residual.mean_ratio) == (1.2, 1.05)
    residual.observe(1.0, 1.2)
    assert residual.p90_ratio == pytest.approx(1.2, rel=0.02)
