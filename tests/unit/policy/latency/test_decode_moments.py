"""From the sums that a server keeps over its decode steps to steps to learn from."""

import random
from collections.abc import Sequence

import pytest

from hfx_sgl.policy.latency.models import LatencyModels
from hfx_sgl.policy.latency.moments import typical_steps


def sums_of(
    steps: Sequence[tuple[float, float]], before: Sequence[float] = (0.0,) * 6
) -> list[float]:
    """Return sums over (running, microseconds) the way the server adds them up."""
    n, b, t, bb, bt, generated = before
    for running, time_us in steps:
        n += 1
        b += running
        t += time_us
        bb += running * running
        bt += running * time_us
        generated += running
    return [n, b, t, bb, bt, generated]


def flat(pairs: tuple[tuple[float, float], ...]) -> list[float]:
    return [value for pair in pairs for value in pair]


def test_steps_of_one_size_give_their_means() -> None:
    sums = sums_of([(8, 10_000), (8, 12_000)])
    assert flat(typical_steps([], sums)) == pytest.approx([8.0, 0.011])


def test_two_steps_keep_all_sums_of_many() -> None:
    rng = random.Random(1)
    steps = [(b, 7000 + 40.0 * b + rng.gauss(0, 100)) for b in rng.choices(range(20, 90), k=200)]
    sums = sums_of(steps)
    pair = typical_steps([], sums)
    assert len(pair) == 2
    again = sums_of([(b, 1e6 * t) for b, t in pair])
    assert [value / 2 for value in again] == pytest.approx([value / 200 for value in sums])


def test_only_the_difference_counts() -> None:
    previous = sums_of([(100, 50_000)] * 10)
    current = sums_of([(10, 9_000)] * 5, previous)
    assert flat(typical_steps(previous, current)) == pytest.approx([10.0, 0.009])


def test_a_server_that_started_anew_counts_from_zero() -> None:
    previous = sums_of([(100, 50_000)] * 100)
    current = sums_of([(10, 9_000)] * 5)
    assert flat(typical_steps(previous, current)) == pytest.approx([10.0, 0.009])


@pytest.mark.parametrize(
    ("previous", "current"),
    [
        ([], []),
        ([], [0.0] * 6),
        (sums_of([(4, 9000)]), sums_of([(4, 9000)])),
        (sums_of([(4, 9000)]), []),
        ([], [1.0, 4.0]),
        ([], [5.0, 0.0, 9000.0, 0.0, 0.0, 0.0]),
        ([], [5.0, 20.0, 0.0, 80.0, 0.0, 20.0]),
        ([], [5.0, 20.0, float("nan"), 80.0, 0.0, 20.0]),
        ([0.0, 0.0, 0.0, float("inf"), 0.0, 0.0], [2.0, 20.0, 9.0, 80.0, 90.0, 2.0]),
        ([], [float("inf"), 20.0, 1.0, 80.0, 0.0, 20.0]),
    ],
)
def test_nothing_to_learn(previous: list[float], current: list[float]) -> None:
    assert typical_steps(previous, current) == ()


def test_sums_that_contradict_each_other_give_the_means_at_most() -> None:
    # A slope so steep that the smaller step would take no time.
    pairs = typical_steps([], [2.0, 20.0, 20_000.0, 250.0, 900_000.0, 20.0])
    assert flat(pairs) == pytest.approx([10.0, 0.01])


def test_few_large_batches_among_small_ones_give_the_means() -> None:
    # The mean less the standard deviation would be a batch of less than nobody.
    pairs = typical_steps([], sums_of([(1.0, 7e3)] * 95 + [(100.0, 9e3)] * 5))
    assert flat(pairs) == pytest.approx([5.95, 0.0071])


def test_the_model_learns_from_reports() -> None:
    rng = random.Random(2)
    models = LatencyModels()
    report: list[float] = []
    for _ in range(60):
        mean = rng.randrange(5, 150)
        steps = []
        for _ in range(50):
            running = max(1, mean + rng.randrange(-4, 5))
            time_s = 7e-3 + 20e-6 * running + 50e-9 * running * 800
            steps.append((float(running), 1e6 * time_s * rng.gauss(1.0, 0.03)))
        following = sums_of(steps, report or (0.0,) * 6)
        models.decode.observe_moments(report, following, 800.0)
        report = following
    for running in (5, 50, 150):
        expected = 7e-3 + 20e-6 * running + 50e-9 * running * 800
        assert models.decode.predict_s(running, running * 800) == pytest.approx(expected, rel=0.04)
