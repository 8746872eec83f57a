from random import Random

import pytest

from hfx_sgl.workload.synthetic.distributions import (
    Distribution,
    Fixed,
    LogNormal,
    Quantiles,
    Uniform,
    whole,
)

ALL = [
    Fixed(7),
    Uniform(10, 30),
    LogNormal(median=100, p90=400, low=20, high=2000),
    Quantiles((0, 0.5, 0.9, 1), (5, 10, 50, 1000)),
]


@pytest.mark.parametrize("distribution", ALL, ids=lambda item: type(item).__name__)
def test_values_rise_with_the_share_from_low_to_high(distribution: Distribution) -> None:
    values = [distribution.at(step / 1000) for step in range(1001)]
    assert values == sorted(values)
    assert values[0] == pytest.approx(distribution.low)
    assert values[-1] == pytest.approx(distribution.high)


def test_a_lognormal_has_the_median_and_the_90th_percentile_asked_for() -> None:
    wide = LogNormal(median=100, p90=400, low=0.001, high=1e9)
    assert wide.at(0.5) == pytest.approx(100, rel=1e-3)
    assert wide.at(0.9) == pytest.approx(400, rel=1e-3)


def test_a_cut_lognormal_draws_again_instead_of_piling_up_at_the_bounds() -> None:
    cut = LogNormal(median=100, p90=400, low=80, high=150)
    rng = Random(1)
    values = [cut.at(rng.random()) for _ in range(2000)]
    assert sum(value in (80, 150) for value in values) == 0
    assert 80 < min(values) < 82
    assert 147 < max(values) < 150


def test_quantiles_are_straight_between_their_points() -> None:
    measured = Quantiles((0, 0.5, 1), (0, 10, 110))
    assert [measured.at(share) for share in (0.25, 0.5, 0.75)] == [5, 10, 60]


@pytest.mark.parametrize(("value", "length"), [(0, 1), (0.4, 1), (1.6, 2), (300, 300)])
def test_a_length_is_whole_and_at_least_one(value: float, length: int) -> None:
    assert whole(value) == length
