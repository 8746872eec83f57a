"""One worker against its class: the factor, and what the class learns meanwhile."""

import math
import random
from statistics import mean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hfx_sgl.errors import ConfigError
from hfx_sgl.policy.latency import (
    LatencyModels,
    PrefillModel,
    SpeedConfig,
    WorkerLatency,
    WorkerSpeed,
)
from hfx_sgl.policy.latency.moments import num_steps
from hfx_sgl.policy.latency.speed import without_usual

PROMPTS = (100, 300, 800, 2000, 5000)


def true_prefill_s(num_new: int) -> float:
    return 7e-3 + 20e-6 * min(num_new, 320) + 23e-6 * max(num_new - 320, 0) + 0.45e-9 * num_new**2


def true_decode_s(num_running: float, num_context: float) -> float:
    return 7e-3 + 2e-5 * num_running + 4e-8 * num_context


class Pool:
    """Workers of one class that report once a round, each with a slowness of its own."""

    def __init__(self, *slowness: float, seed: int = 1) -> None:
        self.slowness = list(slowness)
        self.models = LatencyModels()
        self.workers = [WorkerLatency(self.models) for _ in slowness]
        self.rng = random.Random(seed)
        self.moments: list[tuple[float, ...]] = [(0.0,) * 6 for _ in slowness]

    def prefill_round(self, num_prompts: int = 12) -> None:
        for worker, slow in zip(self.workers, self.slowness, strict=True):
            sums: tuple[float, ...] = (0.0,) * 4
            busy_s = 0.0
            for num_new in self.rng.choices(PROMPTS, k=num_prompts):
                features = PrefillModel.features(num_new, 0)
                sums = tuple(a + b for a, b in zip(sums, features, strict=True))
                busy_s += slow * true_prefill_s(num_new) * self.rng.gauss(1, 0.05)
            worker.observe_prefills(sums, busy_s)

    def decode_round(self) -> None:
        for index, (worker, slow) in enumerate(zip(self.workers, self.slowness, strict=True)):
            before = self.moments[index]
            sums = list(before)
            for _ in range(40):
                b = float(self.rng.randrange(8, 60))
                t_us = slow * true_decode_s(b, 1000 * b) * 1e6 * self.rng.gauss(1, 0.03)
                for at, value in enumerate((1.0, b, t_us, b * b, b * t_us, b)):
                    sums[at] += value
            self.moments[index] = tuple(sums)
            worker.observe_decode(before, self.moments[index], 1000.0)

    def prefill_error(self, index: int) -> float:
        """How far the predictions for one worker are off, a mean over prompts."""
        slow = self.slowness[index]
        return mean(
            abs(self.workers[index].prefill_s(n, 0) / (slow * true_prefill_s(n)) - 1)
            for n in PROMPTS[1:]
        )

    def decode_error(self, index: int) -> float:
        slow = self.slowness[index]
        return mean(
            abs(self.workers[index].decode_s(b, 1000 * b) / (slow * true_decode_s(b, 1000 * b)) - 1)
            for b in (10, 30, 50)
        )


# --- the factor ---


def test_nothing_is_held_against_a_worker_at_first() -> None:
    assert WorkerSpeed().factor == 1.0


def test_the_factor_is_the_ratio_of_the_fading_sums() -> None:
    speed = WorkerSpeed(SpeedConfig(keep_ratio=0.5, prior_s=1.0, usual_ratio=1.0))
    speed.observe(2.0, 4.0)
    assert speed.factor == (1 + 4) / (1 + 2)
    speed.observe(1.0, 1.0)
    assert speed.factor == (1 + 2 + 1) / (1 + 1 + 1)


@pytest.mark.parametrize(
    ("seen", "factor"),
    [
        (1.0, 1.0),
        (1.0999, 1.0),
        (1 / 1.0999, 1.0),
        (1.155, 1.05**2),
        (1 / 1.155, 1.05**-2),
        (1.21, 1.21),
        (3.0, 3.0),
        (0.2, 0.2),
    ],
)
def test_what_is_usual_counts_as_nothing(seen: float, factor: float) -> None:
    assert without_usual(seen, 1.1) == pytest.approx(factor)


@given(st.floats(0.01, 100), st.floats(1, 3), st.floats(1.0, 1.001))
def test_the_threshold_neither_jumps_nor_turns(ratio: float, usual: float, step: float) -> None:
    low, high = without_usual(ratio, usual), without_usual(ratio * step, usual)
    assert low * 0.999999 <= high <= low * step**2 * 1.000001


@pytest.mark.parametrize("slow", [0.3, 1.0, 2.5])
def test_it_follows_a_worker_within_ten_reports(slow: float) -> None:
    speed = WorkerSpeed()
    for _ in range(10):
        speed.observe(0.8, 0.8 * slow)
    assert speed.factor == pytest.approx(slow, rel=0.25)
    for _ in range(30):
        speed.observe(0.8, 0.8 * slow)
    assert speed.factor == pytest.approx(slow, rel=0.15)


def test_long_work_counts_for_more_than_short() -> None:
    speed = WorkerSpeed()
    for _ in range(20):
        speed.observe(0.001, 0.008)
        speed.observe(1.0, 1.0)
    assert speed.factor == 1.0


def test_a_worker_without_work_is_taken_for_usual_again() -> None:
    speed = WorkerSpeed()
    for _ in range(20):
        speed.observe(1.0, 4.0)
    slow = speed.factor
    for _ in range(100):
        speed.observe(0.0, 0.0)
    assert slow > 3.5
    assert speed.factor == 1.0


def test_one_stall_is_worth_no_more_than_the_limit() -> None:
    speed = WorkerSpeed(SpeedConfig(max_factor=4.0))
    speed.observe(0.1, 50.0)
    assert speed.factor == pytest.approx((0.5 + 0.4) / (0.5 + 0.1))


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf, 1e9])
@pytest.mark.parametrize("is_actual", [False, True])
def test_nonsense_only_fades(bad: float, is_actual: bool) -> None:
    speed, still = WorkerSpeed(), WorkerSpeed()
    for each in (speed, still):
        each.observe(1.0, 3.0)
    speed.observe(*((1.0, bad) if is_actual else (bad, 1.0)))
    still.observe(0.0, 0.0)
    assert speed.factor == still.factor


@given(
    st.lists(st.tuples(st.floats(allow_nan=True), st.floats(allow_nan=True)), max_size=40),
    st.floats(1.01, 100),
)
def test_the_factor_stays_within_its_limits(
    work: list[tuple[float, float]], max_factor: float
) -> None:
    speed = WorkerSpeed(SpeedConfig(max_factor=max_factor))
    for predicted_s, actual_s in work:
        speed.observe(predicted_s, actual_s)
        assert 1 / max_factor * 0.999 <= speed.factor <= max_factor * 1.001


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("keep_ratio", 1.0),
        ("keep_ratio", -0.1),
        ("prior_s", 0.0),
        ("max_factor", 1.0),
        ("usual_ratio", 0.9),
    ],
)
def test_settings_out_of_range_are_named(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=name):
        SpeedConfig(**{name: value})


# --- a worker and its class ---


@pytest.mark.parametrize("num_workers", [2, 4])
def test_one_slow_worker_is_told_from_the_others(num_workers: int) -> None:
    pool = Pool(2.0, *[1.0] * (num_workers - 1))
    errors: list[float] = []
    for each_round in range(120):
        pool.prefill_round()
        if each_round >= 40:
            errors += [pool.prefill_error(index) for index in range(num_workers)]
    assert mean(errors) < 0.06
    slow, usual = (pool.workers[index].prefill_speed.factor for index in (0, 1))
    assert slow / usual == pytest.approx(2.0, rel=0.15)


def test_the_model_of_the_class_keeps_small_residuals_beside_a_slow_worker() -> None:
    pool = Pool(2.0, 1.0, 1.0, 1.0)
    for _ in range(150):
        pool.prefill_round()
        pool.decode_round()
    assert pool.models.prefill.fit.residual.p90_ratio < 1.2
    assert pool.models.decode.fit.residual.p90_ratio < 1.2


def test_slow_decode_steps_are_told_too() -> None:
    pool = Pool(1.0, 1.0, 1.8)
    for _ in range(80):
        pool.decode_round()
    assert max(pool.decode_error(index) for index in range(3)) < 0.08
    factors = [worker.decode_speed.factor for worker in pool.workers]
    assert factors[2] / factors[0] == pytest.approx(1.8, rel=0.15)
    assert [worker.prefill_speed.factor for worker in pool.workers] == [1.0] * 3


def test_a_worker_that_recovers_is_found_again() -> None:
    pool = Pool(1.0, 1.0, 1.0, 1.0)
    errors: dict[float, float] = {}
    for slow in (1.0, 2.0, 1.0):
        pool.slowness[0] = slow
        for _ in range(40):
            pool.prefill_round()
        errors[slow] = pool.prefill_error(0)
    assert max(errors.values()) < 0.1


def test_the_change_of_all_is_followed_as_that_of_one() -> None:
    pool = Pool(1.0, 1.0)
    for _ in range(40):
        pool.prefill_round()
    pool.slowness = [1.7, 1.7]
    for _ in range(25):
        pool.prefill_round()
    assert max(pool.prefill_error(index) for index in range(2)) < 0.08


def test_equal_workers_keep_factors_of_one() -> None:
    pool = Pool(1.0, 1.0, 1.0, 1.0)
    for _ in range(100):
        pool.prefill_round()
        pool.decode_round()
    for worker in pool.workers:
        assert (worker.prefill_speed.factor, worker.decode_speed.factor) == (1.0, 1.0)


def test_before_the_class_is_warm_the_worker_is_not_blamed() -> None:
    models = LatencyModels()
    worker = WorkerLatency(models)
    features = PrefillModel.features(2000, 0)
    usual_s = models.prefill.predict_s(2000, 0)
    for _ in range(9):
        worker.observe_prefills(features, 5 * usual_s)
        assert worker.prefill_speed.factor == 1.0
    assert worker.prefill_s(2000, 0) == pytest.approx(5 * usual_s, rel=0.05)


def test_a_report_without_work_teaches_nothing() -> None:
    models = LatencyModels()
    worker = WorkerLatency(models)
    worker.observe_prefills((), 0.0)
    worker.observe_prefills((), 0.3)  # a health check, which nobody sent
    worker.observe_decode((1.0,) * 6, (1.0,) * 6, 100.0)
    worker.observe_decode((), (), 0.0)
    assert models.snapshot() == LatencyModels().snapshot()
    assert (worker.prefill_speed.factor, worker.decode_speed.factor) == (1.0, 1.0)


def test_the_number_of_steps_between_reports() -> None:
    before, after = (10.0, 20.0, 1e5, 40.0, 2e5, 20.0), (25.0, 50.0, 3e5, 100.0, 6e5, 50.0)
    assert num_steps(before, after) == 15.0
    assert num_steps((), after) == 25.0
    assert num_steps(after, before) == 10.0  # it started anew
    assert num_steps(after, after) == 0.0
    assert num_steps((), ()) == 0.0
