"""The three models of a class of workers: forms, warmth, snapshots, drift."""

import random
from dataclasses import replace

import msgspec
import pytest

from hfx_sgl.errors import ConfigError
from hfx_sgl.policy.latency import (
    LatencyModels,
    LatencyPrior,
    LatencySnapshot,
    ModelSnapshot,
)
from hfx_sgl.policy.latency.config import FitConfig
from hfx_sgl.policy.latency.fit import LatencyFit

PRIOR = LatencyPrior(
    prefill_s=1e-3,
    prefill_s_per_token_below_knee=2e-6,
    prefill_s_per_token=30e-6,
    prefill_s_per_pair=1e-9,
    decode_s=5e-3,
    decode_s_per_running=1e-5,
    decode_s_per_context_token=1e-8,
    decode_s_saturating=4e-3,
    transfer_s=1e-3,
    transfer_s_per_byte=1e-10,
)


@pytest.mark.parametrize(
    ("num_new", "num_prefix", "expected_s"),
    [
        (100, 0, 1e-3 + 100 * 2e-6 + 100 * 50 * 1e-9),
        (100, 1000, 1e-3 + 100 * 2e-6 + 100 * 1050 * 1e-9),
        (320, 0, 1e-3 + 320 * 2e-6 + 320 * 160 * 1e-9),
        (1320, 0, 1e-3 + 320 * 2e-6 + 1000 * 30e-6 + 1320 * 660 * 1e-9),
    ],
)
def test_prefill_form(num_new: int, num_prefix: int, expected_s: float) -> None:
    assert LatencyModels(PRIOR).prefill.predict_s(num_new, num_prefix) == pytest.approx(expected_s)


@pytest.mark.parametrize(
    ("num_running", "num_context", "expected_s"),
    [
        (16, 1000, 5e-3 + 16e-5 + 1e-5 + 2e-3),
        (48, 0, 5e-3 + 48e-5 + 3e-3),
        (0, 0, 5e-3),
        (-16, 0, 5e-3),
    ],
)
def test_decode_form(num_running: int, num_context: int, expected_s: float) -> None:
    models = LatencyModels(PRIOR)
    assert models.decode.predict_s(num_running, num_context) == pytest.approx(expected_s)


def test_transfer_form() -> None:
    assert LatencyModels(PRIOR).transfer.predict_s(10**9) == pytest.approx(1e-3 + 0.1)


def test_each_model_learns_its_own() -> None:
    models = LatencyModels(PRIOR)
    before = models.prefill.predict_s(500, 0), models.decode.predict_s(10, 1000)
    for _ in range(10):
        models.transfer.observe(10**8, 0.05)
    assert models.transfer.predict_s(10**8) == pytest.approx(0.05, rel=0.01)
    assert (models.prefill.predict_s(500, 0), models.decode.predict_s(10, 1000)) == before
    for _ in range(10):
        models.prefill.observe(500, 0, 0.5)
        models.decode.observe(10, 1000, 0.3)
    assert models.prefill.predict_s(500, 0) == pytest.approx(0.5, rel=0.01)
    assert models.decode.predict_s(10, 1000) == pytest.approx(0.3, rel=0.01)


def test_the_transfer_model_finds_bandwidth_and_latency() -> None:
    models, rng = LatencyModels(), random.Random(1)
    for _ in range(100):
        size = rng.randrange(10**6, 10**9)
        models.transfer.observe(size, (5e-3 + size / 25e9) * rng.gauss(1, 0.05))
    for size in (10**6, 10**8, 10**9):
        assert models.transfer.predict_s(size) == pytest.approx(5e-3 + size / 25e9, rel=0.06)


def test_a_model_is_warm_after_some_observations() -> None:
    models = LatencyModels(config=FitConfig(num_warm_observations=7))
    for _ in range(7):
        assert not models.prefill.fit.is_warm
        models.prefill.observe(100, 0, 0.02)
    assert models.prefill.fit.is_warm
    assert not models.decode.fit.is_warm


@pytest.mark.parametrize(
    ("num_new", "num_prefix", "duration_s"),
    [
        (100, 0, 0.0),
        (100, 0, -1.0),
        (100, 0, float("nan")),
        (100, 0, float("inf")),
        (100, 0, 1e6),
        (-100, 0, 0.1),
        (10, -1000, 0.1),
        (10**12, 0, 0.1),
    ],
)
def test_nonsense_is_not_learnt(num_new: int, num_prefix: int, duration_s: float) -> None:
    models = LatencyModels()
    models.prefill.observe(num_new, num_prefix, duration_s)
    assert models.prefill.fit.num_observations == 0
    assert models.snapshot() == LatencyModels().snapshot()


def test_a_decode_step_of_nobody_is_not_learnt() -> None:
    models = LatencyModels()
    models.decode.observe(0, 0, 0.01)
    models.decode.observe(-1, 10, 0.01)
    assert models.decode.fit.num_observations == 0


def test_the_residual_is_of_predictions_made_before_learning() -> None:
    models, rng = LatencyModels(), random.Random(2)
    for _ in range(400):
        models.decode.observe(8, 4000, 0.012 * rng.lognormvariate(0.0, 0.1))
    residual = models.decode.fit.residual
    assert residual.num_observations == 395
    assert residual.mean_ratio == pytest.approx(1.0, abs=0.05)
    assert 1.07 < residual.p90_ratio < 1.25


def trained() -> LatencyModels:
    models, rng = LatencyModels(), random.Random(3)
    for _ in range(50):
        n, b = rng.randrange(10, 5000), rng.randrange(1, 100)
        models.prefill.observe(n, 0, (5e-3 + 20e-6 * n) * rng.gauss(1, 0.05))
        models.decode.observe(b, 500 * b, (7e-3 + 30e-6 * b) * rng.gauss(1, 0.05))
        models.transfer.observe(10**6 * n, (1e-3 + 1e-4 * n) * rng.gauss(1, 0.05))
    return models


def test_a_snapshot_predicts_the_same_and_is_warm() -> None:
    models = trained()
    again = LatencyModels.from_snapshot(models.snapshot())
    assert again.snapshot() == models.snapshot()
    assert again.prefill.predict_s(700, 300) == models.prefill.predict_s(700, 300)
    assert again.decode.predict_s(70, 3000) == models.decode.predict_s(70, 3000)
    assert again.transfer.predict_s(12345678) == models.transfer.predict_s(12345678)
    for model in (again.prefill, again.decode, again.transfer):
        assert model.fit.is_warm
    again.prefill.observe(700, 300, 0.02)
    assert again.prefill.fit.num_observations == 51


def test_a_snapshot_survives_json() -> None:
    snapshot = trained().snapshot()
    assert msgspec.json.decode(msgspec.json.encode(snapshot), type=LatencySnapshot) == snapshot


def test_restored_models_stay_good_and_still_follow_a_change() -> None:
    again, rng = LatencyModels.from_snapshot(trained().snapshot()), random.Random(4)
    for _ in range(5):
        n = rng.randrange(10, 5000)
        again.prefill.observe(n, 0, (5e-3 + 20e-6 * n) * rng.gauss(1, 0.05))
        assert again.prefill.predict_s(2000, 0) == pytest.approx(0.045, rel=0.12)
    for _ in range(20):
        n = rng.randrange(10, 5000)
        again.prefill.observe(n, 0, 3 * (5e-3 + 20e-6 * n) * rng.gauss(1, 0.05))
    assert again.prefill.predict_s(2000, 0) == pytest.approx(0.135, rel=0.08)


def test_a_snapshot_of_a_cold_model_is_ignored() -> None:
    models = LatencyModels()
    for _ in range(9):
        models.prefill.observe(1000, 0, 3.0)
    again = LatencyModels.from_snapshot(models.snapshot())
    assert again.snapshot() == LatencyModels().snapshot()


def test_a_drift_is_counted_and_learnt() -> None:
    models = LatencyModels()
    for step_s in [0.010] * 100 + [0.013] * 15:
        models.decode.observe(10, 1000, step_s)
    assert models.decode.fit.num_drifts == 1
    assert models.decode.predict_s(10, 1000) == pytest.approx(0.013, rel=0.02)
    assert models.prefill.fit.num_drifts == 0


def test_a_snapshot_for_another_form_is_refused() -> None:
    snapshot = trained().snapshot()
    other = replace(snapshot, prefill=snapshot.transfer)
    with pytest.raises(ConfigError, match=r"coefficients: must be 4 numbers \(got 2\)"):
        LatencyModels.from_snapshot(other)


def test_bad_saved_values_are_named() -> None:
    with pytest.raises(ConfigError) as caught:
        ModelSnapshot(
            coefficients=(1.0, -1.0), num_observations=-1, p90_ratio=float("nan"), mean_ratio=0.0
        )
    assert [line.split(":")[0] for line in str(caught.value).splitlines()] == [
        "coefficients",
        "num_observations",
        "p90_ratio",
        "mean_ratio",
    ]


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan")])
def test_a_prior_is_above_zero(value: float) -> None:
    with pytest.raises(ConfigError, match="decode_s_per_running"):
        LatencyPrior(decode_s_per_running=value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("forgetting_ratio", 1.1),
        ("noise_ratio", 0.0),
        ("common_spread", -1.0),
        ("own_spread", 0.0),
        ("saved_spread_ratio", 0.0),
        ("clip_scales", 0.5),
        ("drift_slack", -1.0),
        ("drift_threshold", 0.0),
        ("drift_spread_ratio", 2.0),
        ("num_warm_observations", 0),
    ],
)
def test_bad_settings_are_named(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=name):
        FitConfig(**{name: value})  # type: ignore[arg-type]


def test_a_prediction_of_zero_is_learnt_from() -> None:
    saved = ModelSnapshot(
        coefficients=(0.0, 1.0), num_observations=10, p90_ratio=1.1, mean_ratio=1.0
    )
    fit = LatencyFit((1.0, 1.0), (1.0, 1.0), FitConfig(), saved)
    assert fit.observe((1.0, 0.0), 2.0)
    assert fit.residual.p90_ratio > 1.1


def test_all_zero_features_say_nothing() -> None:
    fit = LatencyFit((1.0, 1.0), (1.0, 1.0), FitConfig())
    assert not fit.observe((0.0, 0.0), 1.0)
    assert fit.observe((0.0, 1.0), 1.0)


def test_snapshots_hold_plain_numbers() -> None:
    snapshot = LatencyModels(PRIOR).snapshot()
    assert isinstance(snapshot, LatencySnapshot)
    assert snapshot.transfer == ModelSnapshot(
        coefficients=(1e-3, 1e-10), num_observations=0, p90_ratio=1.5, mean_ratio=1.0
    )
