from itertools import takewhile
from random import Random

import pytest

from hfx_sgl.workload.statistics import gap_cv
from hfx_sgl.workload.synthetic.arrivals import (
    Diurnal,
    FlashCrowd,
    Intensity,
    Process,
    arrival_times,
)

CROWD = FlashCrowd(start_s=100, duration_s=50, factor=4)
WAVE = Diurnal(period_s=200, amplitude_ratio=0.9)


STEADY = Intensity(mean_per_s=10.0)
CROWDED = Intensity(mean_per_s=10.0, flash_crowd=CROWD)
WAVING = Intensity(mean_per_s=10.0, diurnal=WAVE)
BOTH = Intensity(mean_per_s=10.0, diurnal=WAVE, flash_crowd=CROWD)


def arrivals(
    process: Process, intensity: Intensity, *, cv: float = 1.0, until_s: float = 1000.0
) -> list[float]:
    times = arrival_times(Random(5), process, cv, intensity)
    return list(takewhile(lambda at_s: at_s < until_s, times))


def count(times: list[float], from_s: float, to_s: float) -> int:
    return sum(from_s <= at_s < to_s for at_s in times)


@pytest.mark.parametrize(
    ("process", "cv", "expected_cv"),
    [
        (Process.POISSON, 1.0, 1.0),
        (Process.GAMMA, 3.0, 3.0),
        (Process.GAMMA, 0.3, 0.3),
        (Process.UNIFORM, 1.0, 0.0),
    ],
)
def test_a_process_has_its_rate_and_burstiness(
    process: Process, cv: float, expected_cv: float
) -> None:
    times = arrivals(process, STEADY, cv=cv)
    assert len(times) == pytest.approx(10_000, rel=0.1)
    assert gap_cv(times) == pytest.approx(expected_cv, rel=0.1, abs=1e-3)


def test_a_flash_crowd_multiplies_the_rate_while_it_lasts() -> None:
    times = arrivals(Process.POISSON, CROWDED)
    assert count(times, 0, 100) == pytest.approx(1000, rel=0.1)
    assert count(times, 100, 150) == pytest.approx(2000, rel=0.1)
    assert count(times, 150, 250) == pytest.approx(1000, rel=0.1)


def test_a_diurnal_rate_swings_around_its_mean() -> None:
    times = arrivals(Process.POISSON, WAVING)
    assert len(times) == pytest.approx(10_000, rel=0.05)
    for start_s in range(0, 1000, 200):
        # The mean of a half wave is 2 / pi of its amplitude.
        assert count(times, start_s, start_s + 100) == pytest.approx(1573, rel=0.12)
        assert count(times, start_s + 100, start_s + 200) == pytest.approx(427, rel=0.25)


def test_a_crowd_comes_on_top_of_the_wave() -> None:
    before, inside, after = 60.0, 130.0, 400.0
    assert BOTH.cumulative(before) == WAVING.cumulative(before)
    extra = 3 * (WAVING.cumulative(inside) - WAVING.cumulative(100))
    assert BOTH.cumulative(inside) == pytest.approx(WAVING.cumulative(inside) + extra)
    whole = 3 * (WAVING.cumulative(150) - WAVING.cumulative(100))
    assert BOTH.cumulative(after) == pytest.approx(WAVING.cumulative(after) + whole)


@pytest.mark.parametrize("intensity", [STEADY, CROWDED, WAVING, BOTH])
def test_an_instant_is_where_the_cumulative_rate_says(intensity: Intensity) -> None:
    for expected in (0.1, 999.0, 1200.0, 2600.0, 18_000.0):
        at_s = intensity.instant_of(expected, after_s=0.0)
        assert intensity.cumulative(at_s) == pytest.approx(expected, abs=1e-6)


def test_a_crowd_with_factor_zero_silences_the_source() -> None:
    silence = FlashCrowd(start_s=100, duration_s=50, factor=0)
    times = arrivals(Process.POISSON, Intensity(mean_per_s=10.0, flash_crowd=silence), until_s=300)
    assert count(times, 100.001, 149.999) == 0
    assert count(times, 150, 300) == pytest.approx(1500, rel=0.1)


def test_evenly_spaced_streams_are_out_of_step() -> None:
    first = next(arrival_times(Random(1), Process.UNIFORM, 1.0, Intensity(mean_per_s=1.0)))
    second = next(arrival_times(Random(2), Process.UNIFORM, 1.0, Intensity(mean_per_s=1.0)))
    assert 0 <= first < 1
    assert 0 <= second < 1
    assert first != second
