"""Learning from measured step times with noise: how soon, how well, and under disturbance.

Errors are means over 100 points of the absolute relative error; a median over seeds is judged.
"""

import random
import statistics
from collections.abc import Callable
from functools import cache

import pytest

from hfx_sgl.engine.profile import EngineProfile, load_profile
from hfx_sgl.engine.step_times.times import PrefillPart
from hfx_sgl.policy.latency import DecodeModel, LatencyModels, PrefillModel

PROFILES = ("qwen3-8b_h100_tp1", "llama31-8b_a100_tp1")
MIXTURE = "qwen3-30b-a3b_h100_tp1"
NOISE = 0.05
HOST_S, HOST_PER_REQUEST_S = 8e-4, 1e-5
KINDS = ("prefill", "decode")

Point = tuple[int, int]


class Device:
    """Draws points of the domain and says what they take."""

    def __init__(self, profile: EngineProfile, kind: str) -> None:
        self._times = profile.step_times
        self._most_tokens = min(profile.kv_capacity_tokens, 400_000)
        self._kind = kind
        rng = random.Random(99)
        self.points = [self.draw(rng) for _ in range(100)]

    def draw(self, rng: random.Random) -> Point:
        if self._kind == "prefill":
            has_prefix = rng.random() < 0.5
            return int(2 ** rng.uniform(7, 13)), int(2 ** rng.uniform(7, 13)) * has_prefix
        while True:
            num_running, context = int(2 ** rng.uniform(0, 8)), int(2 ** rng.uniform(7, 13))
            if num_running * context <= self._most_tokens:
                return num_running, num_running * context

    def time_s(self, point: Point) -> float:
        if self._kind == "prefill":
            return self._times.prefill_s([PrefillPart(*point)]) + HOST_S + HOST_PER_REQUEST_S
        return self._times.decode_s(*point) + HOST_S + HOST_PER_REQUEST_S * point[0]

    def error(self, model: PrefillModel | DecodeModel, factor: float = 1.0) -> float:
        return statistics.fmean(
            abs(model.predict_s(*point) / (factor * self.time_s(point)) - 1.0)
            for point in self.points
        )

    def teach(
        self,
        model: PrefillModel | DecodeModel,
        rng: random.Random,
        num_observations: int,
        factor_of: Callable[[int], float] = lambda _: 1.0,
    ) -> None:
        for i in range(num_observations):
            point = self.draw(rng)
            time_s = self.time_s(point) * factor_of(i) * rng.gauss(1.0, NOISE)
            model.observe(*point, time_s)


@cache
def device(name: str, kind: str) -> Device:
    return Device(load_profile(name), kind)


def fresh(kind: str) -> PrefillModel | DecodeModel:
    models = LatencyModels()
    return models.prefill if kind == "prefill" else models.decode


def median_error(learn: Callable[[random.Random], float]) -> float:
    return statistics.median(learn(random.Random(seed)) for seed in range(9))


@pytest.mark.parametrize("name", PROFILES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("num_observations", "most"), [(0, 0.75), (1, 0.20), (10, 0.07), (100, 0.04)]
)
def test_error_after_some_observations(
    name: str, kind: str, num_observations: int, most: float
) -> None:
    def learn(rng: random.Random) -> float:
        model = fresh(kind)
        device(name, kind).teach(model, rng, num_observations)
        return device(name, kind).error(model)

    assert median_error(learn) <= most


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("num_observations", "most"), [(10, 0.075), (100, 0.05)])
def test_a_mixture_of_experts_is_learnt_as_well(
    kind: str, num_observations: int, most: float
) -> None:
    def learn(rng: random.Random) -> float:
        model = fresh(kind)
        device(MIXTURE, kind).teach(model, rng, num_observations)
        return device(MIXTURE, kind).error(model)

    assert median_error(learn) <= most


@pytest.mark.parametrize("name", PROFILES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("factor", [1.2, 0.8])
def test_a_device_that_changes_is_followed(name: str, kind: str, factor: float) -> None:
    def learn(rng: random.Random) -> float:
        model = fresh(kind)
        device(name, kind).teach(model, rng, 200)
        assert device(name, kind).error(model, factor) > 0.14
        device(name, kind).teach(model, rng, 50, lambda _: factor)
        assert model.fit.num_drifts >= 1
        return device(name, kind).error(model, factor)

    assert median_error(learn) <= 0.045


@pytest.mark.parametrize("name", PROFILES)
@pytest.mark.parametrize("kind", KINDS)
def test_steady_operation_is_no_drift(name: str, kind: str) -> None:
    model = fresh(kind)
    device(name, kind).teach(model, random.Random(1), 1500)
    assert model.fit.num_drifts == 0
    residual = model.fit.residual
    assert residual.mean_ratio == pytest.approx(1.0, abs=0.02)
    assert 1.04 < residual.p90_ratio < 1.13


@pytest.mark.parametrize("name", PROFILES)
@pytest.mark.parametrize("kind", KINDS)
def test_outliers_do_no_harm(name: str, kind: str) -> None:
    def learn(rng: random.Random) -> float:
        model = fresh(kind)
        device(name, kind).teach(model, rng, 200, lambda _: 10.0 if rng.random() < 0.05 else 1.0)
        return device(name, kind).error(model)

    assert median_error(learn) <= 0.045


@pytest.mark.parametrize("kind", KINDS)
def test_a_server_that_warms_up_does_little_harm(kind: str) -> None:
    def learn(rng: random.Random) -> float:
        model = fresh(kind)
        device(PROFILES[0], kind).teach(model, rng, 20, lambda i: 10.0 if i < 2 else 1.0)
        return device(PROFILES[0], kind).error(model)

    assert median_error(learn) <= 0.065


def test_a_slow_down_seen_with_one_size_moves_all_sizes() -> None:
    there = device(PROFILES[0], "prefill")
    model, rng = fresh("prefill"), random.Random(1)
    there.teach(model, rng, 300)
    for _ in range(2000):
        model.observe(512, 0, 1.3 * there.time_s((512, 0)) * rng.gauss(1.0, NOISE))
    for num_new in (128, 1024, 4096, 8192):
        ratio = model.predict_s(num_new, 0) / there.time_s((num_new, 0))
        assert 1.1 < ratio < 1.5


def test_one_size_only_still_gives_a_shape() -> None:
    there = device(PROFILES[0], "prefill")
    model, rng = fresh("prefill"), random.Random(1)
    for _ in range(2000):
        model.observe(512, 0, there.time_s((512, 0)) * rng.gauss(1.0, NOISE))
    for num_new in (32, 128, 1024, 4096, 16384):
        assert 0.6 < model.predict_s(num_new, 0) / there.time_s((num_new, 0)) < 1.4
