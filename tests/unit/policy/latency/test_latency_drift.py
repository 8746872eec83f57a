"""The detector of a device that changed."""

import random

import pytest

from hfx_sgl.policy.latency.config import FitConfig
from hfx_sgl.policy.latency.drift import DriftDetector


def num_until_drift(residual: float, **settings: float) -> int | None:
    detector = DriftDetector(FitConfig(**settings))  # type: ignore[arg-type]
    return next((i + 1 for i in range(100) if detector.observe(residual)), None)


@pytest.mark.parametrize("sign", [1, -1])
def test_it_sums_what_goes_beyond_the_slack_in_either_direction(sign: int) -> None:
    assert num_until_drift(sign * 3.0, drift_slack=1.0, drift_threshold=8.0) == 5
    assert num_until_drift(sign * 3.0, drift_slack=2.0, drift_threshold=8.0) == 9
    assert num_until_drift(sign * 3.0, drift_slack=1.0, drift_threshold=4.0) == 3
    assert num_until_drift(sign * 1.0, drift_slack=1.0, drift_threshold=4.0) is None


def test_residuals_to_both_sides_are_no_drift() -> None:
    detector, rng = DriftDetector(FitConfig()), random.Random(1)
    assert not any(detector.observe(rng.gauss(0.0, 1.25)) for _ in range(5000))
    assert detector.num_drifts == 0


def test_it_starts_anew_after_a_drift() -> None:
    detector = DriftDetector(FitConfig(drift_slack=1.0, drift_threshold=8.0))
    found = [detector.observe(3.0) for _ in range(10)]
    assert found == [False] * 4 + [True] + [False] * 4 + [True]
    assert detector.num_drifts == 2
