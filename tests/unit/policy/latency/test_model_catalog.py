"""Every class of workers has models of its own, which outlive the process."""

import pytest

from hfx_sgl.errors import ConfigError
from hfx_sgl.policy.latency import (
    LatencyModels,
    LatencyPrior,
    LatencySnapshot,
    ModelCatalog,
    ModelSnapshot,
)


def taught(catalog: ModelCatalog, key: str, step_s: float) -> LatencyModels:
    models = catalog.models_of(key)
    for num_running in range(1, 41):
        models.decode.observe(num_running, 500 * num_running, step_s)
    return models


def test_a_class_shares_its_models_and_no_others() -> None:
    catalog = ModelCatalog()
    fast, slow = taught(catalog, "fast", 0.01), taught(catalog, "slow", 0.05)
    assert catalog.models_of("fast") is fast
    assert catalog.models_of("slow") is slow
    assert fast.decode.predict_s(10, 5000) == pytest.approx(0.01, rel=0.05)
    assert slow.decode.predict_s(10, 5000) == pytest.approx(0.05, rel=0.05)
    assert tuple(catalog.by_class()) == ("fast", "slow")


def test_new_classes_start_from_the_prior() -> None:
    prior = LatencyPrior(prefill_s=0.5)
    predicted_s = ModelCatalog(prior=prior).models_of("any").prefill.predict_s(1, 0)
    assert predicted_s == LatencyModels(prior).prefill.predict_s(1, 0) > 0.5


def test_what_was_saved_is_where_a_class_starts() -> None:
    before = ModelCatalog()
    taught(before, "known", 0.03)
    after = ModelCatalog(before.snapshots())
    assert after.by_class() == {}
    assert after.models_of("known").decode.predict_s(10, 5000) == pytest.approx(0.03, rel=0.05)
    assert after.models_of("known").decode.fit.is_warm
    assert not after.models_of("unknown").decode.fit.is_warm


def test_classes_that_nobody_asked_for_stay_saved() -> None:
    before = ModelCatalog()
    taught(before, "a", 0.03)
    taught(before, "b", 0.04)
    after = ModelCatalog(before.snapshots())
    taught(after, "a", 0.06)
    snapshots = after.snapshots()
    assert set(snapshots) == {"a", "b"}
    assert snapshots["b"] == before.snapshots()["b"]
    assert snapshots["a"] == after.models_of("a").snapshot() != before.snapshots()["a"]


def test_a_snapshot_of_other_models_is_refused() -> None:
    odd = ModelSnapshot(coefficients=(0.1,), num_observations=50, p90_ratio=1.0, mean_ratio=1.0)
    catalog = ModelCatalog({"odd": LatencySnapshot(prefill=odd, decode=odd, transfer=odd)})
    with pytest.raises(ConfigError, match="must be 4 numbers"):
        catalog.models_of("odd")
