"""Latency models under any input: predictions stay finite, above zero and monotone."""

from itertools import pairwise
from math import isfinite

from hypothesis import given, settings
from hypothesis import strategies as st

from hfx_sgl.policy.latency import LatencyModels
from hfx_sgl.policy.latency.config import FitConfig
from hfx_sgl.policy.latency.residual import Residual

COUNTS = st.one_of(st.integers(0, 300), st.integers(0, 40_000), st.integers(-(2**63), 2**63))
DURATIONS = st.one_of(st.floats(1e-4, 10.0), st.floats())
OBSERVATIONS = st.lists(st.tuples(COUNTS, COUNTS, DURATIONS), max_size=60)
MOMENTS = st.lists(st.floats(0, 1e9) | st.floats(), max_size=7)


def teach(models: LatencyModels, observations: list[tuple[int, int, float]]) -> None:
    for first, second, duration_s in observations:
        models.prefill.observe(first, second, duration_s)
        models.decode.observe(first, second, duration_s)
        models.transfer.observe(first, duration_s)


@settings(max_examples=200, deadline=None)
@given(
    observations=OBSERVATIONS,
    questions=st.lists(st.tuples(COUNTS, COUNTS), min_size=1, max_size=10),
    forgetting=st.sampled_from([0.5, 0.995, 1.0]),
)
def test_predictions_are_finite_and_above_zero(
    observations: list[tuple[int, int, float]],
    questions: list[tuple[int, int]],
    forgetting: float,
) -> None:
    models = LatencyModels(config=FitConfig(forgetting_ratio=forgetting))
    teach(models, observations)
    again = LatencyModels.from_snapshot(models.snapshot())
    teach(again, observations)
    for each in (models, again):
        for first, second in questions:
            for time_s in (
                each.prefill.predict_s(first, second),
                each.decode.predict_s(first, second),
                each.transfer.predict_s(first),
            ):
                assert isfinite(time_s)
                assert time_s > 0.0
        for model in (each.prefill, each.decode, each.transfer):
            assert min(model.fit.coefficients) >= 0.0
            assert 0.12 < model.fit.residual.p90_ratio < 8.2


@settings(max_examples=100, deadline=None)
@given(
    observations=OBSERVATIONS,
    first=st.integers(0, 100_000),
    second=st.integers(0, 1_000_000),
    more=st.integers(0, 100_000),
)
def test_more_work_never_takes_less(
    observations: list[tuple[int, int, float]], first: int, second: int, more: int
) -> None:
    models = LatencyModels()
    teach(models, observations)
    most = 1.0 + 1e-9
    for predict_s in (models.prefill.predict_s, models.decode.predict_s):
        time_s = predict_s(first, second)
        assert predict_s(first + more, second) * most >= time_s
        assert predict_s(first, second + more) * most >= time_s
    assert models.transfer.predict_s(first + more) * most >= models.transfer.predict_s(first)


@settings(max_examples=200, deadline=None)
@given(reports=st.lists(MOMENTS, min_size=2, max_size=12), context=st.floats(0, 1e6) | st.floats())
def test_any_reports_leave_the_decode_model_usable(
    reports: list[list[float]], context: float
) -> None:
    models = LatencyModels()
    for previous, current in pairwise(reports):
        models.decode.observe_moments(previous, current, context)
    time_s = models.decode.predict_s(10, 10_000)
    assert isfinite(time_s)
    assert time_s > 0.0


@settings(max_examples=100, deadline=None)
@given(ratios=st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=300))
def test_the_quantile_lies_where_the_ratios_do(ratios: list[float]) -> None:
    residual = Residual(1.0, 1.0)
    for ratio in ratios:
        residual.observe(1.0, ratio)
    low, high = min(*ratios, 1.0), max(*ratios, 1.0)
    assert max(low, 0.125) * 0.97 <= residual.p90_ratio <= min(high, 8.0) * 1.03


@settings(max_examples=50, deadline=None)
@given(observations=OBSERVATIONS)
def test_the_same_observations_give_the_same_models(
    observations: list[tuple[int, int, float]],
) -> None:
    first, second = LatencyModels(), LatencyModels()
    teach(first, observations)
    teach(second, observations)
    assert first.snapshot() == second.snapshot()
