import random

import pytest

from hfx_sgl.results.latency import latency_stats, percentile


@pytest.mark.parametrize(
    ("values", "rank", "expected"),
    [
        ([7.0], 99, 7.0),
        ([1.0, 2.0], 50, 1.5),
        ([0.0, 10.0], 90, 9.0),
        # numpy.percentile([1, 2, 4, 8, 16], [50, 90, 95, 99])
        ([1.0, 2.0, 4.0, 8.0, 16.0], 50, 4.0),
        ([1.0, 2.0, 4.0, 8.0, 16.0], 90, 12.8),
        ([1.0, 2.0, 4.0, 8.0, 16.0], 95, 14.4),
        ([1.0, 2.0, 4.0, 8.0, 16.0], 99, 15.68),
        ([1.0, 2.0, 4.0], 0, 1.0),
        ([1.0, 2.0, 4.0], 100, 4.0),
    ],
)
def test_percentiles_interpolate_linearly(
    values: list[float], rank: float, expected: float
) -> None:
    assert percentile(values, rank) == pytest.approx(expected, abs=1e-12)


def test_statistics_of_values_in_any_order() -> None:
    stats = latency_stats([0.004, 0.001, 0.016, 0.002, 0.008])
    assert stats is not None
    assert stats.mean_ms == pytest.approx(6.2)
    assert stats.median_ms == pytest.approx(4.0)
    assert stats.std_ms == pytest.approx(5.455272678794342)  # numpy.std, the whole population
    assert (stats.p90_ms, stats.p95_ms, stats.p99_ms) == pytest.approx((12.8, 14.4, 15.68))


def test_a_rank_that_falls_on_a_value_is_that_value() -> None:
    values = [index / 1000 for index in range(101)]
    random.Random(1).shuffle(values)
    stats = latency_stats(values)
    assert stats is not None
    assert (stats.median_ms, stats.p90_ms, stats.p99_ms) == pytest.approx((50, 90, 99))


def test_nothing_measured_is_no_statistics() -> None:
    assert latency_stats([]) is None
