from hfx_router.metrics.families import cumulative_buckets, histogram_family
from hfx_router.metrics.histogram import Histogram
from hfx_router.metrics.recorder import (
    DURATION_BOUNDS_S,
    LOOP_LAG_BOUNDS_S,
    TPOT_BOUNDS_S,
    TTFT_BOUNDS_S,
)
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client import Histogram as ReferenceHistogram

BOUNDS = st.sampled_from(
    [DURATION_BOUNDS_S, TTFT_BOUNDS_S, TPOT_BOUNDS_S, LOOP_LAG_BOUNDS_S, (1e-7, 0.5, 1e6, 2.5e9)]
) | st.lists(
    st.floats(min_value=1e-9, max_value=1e9, allow_nan=False), min_size=1, max_size=8, unique=True
).map(sorted)


def samples_of_reference(bounds: list[float], values: list[float]) -> dict[tuple[str, str], float]:
    registry = CollectorRegistry()
    reference = ReferenceHistogram("x", "x", buckets=bounds, registry=registry)
    for value in values:
        reference.observe(value)
    return {
        (sample.name, sample.labels.get("le", "")): sample.value
        for family in registry.collect()
        for sample in family.samples
        if sample.name != "x_created"
    }


@given(bounds=BOUNDS, data=st.data())
def test_a_histogram_is_exported_as_the_client_library_would(
    bounds: list[float], data: st.DataObject
) -> None:
    edges = st.sampled_from([float(bound) for bound in bounds])
    values = data.draw(st.lists(edges | st.floats(min_value=0, max_value=1e10), max_size=40))
    cut = data.draw(st.integers(min_value=0, max_value=len(values)))
    # Split over two histograms: several recorder keys often end up under one set of labels.
    parts = [Histogram(bounds), Histogram(bounds)]
    for index, value in enumerate(values):
        parts[index < cut].observe(value)

    family = histogram_family("x", "x", (), {(): parts})

    ours = {(sample.name, sample.labels.get("le", "")): sample.value for sample in family.samples}
    reference = samples_of_reference(bounds, values)
    # Floating point sums depend on the order of the addends.
    assert abs(ours.pop(("x_sum", "")) - reference.pop(("x_sum", ""))) <= 1e-9 * sum(values)
    assert ours == reference


def test_a_value_on_a_bound_belongs_to_that_bucket() -> None:
    histogram = Histogram((0.1, 1))
    for value in (0.1, 1, 1.5):
        histogram.observe(value)
    assert cumulative_buckets([histogram]) == [("0.1", 1), ("1.0", 2), ("+Inf", 3)]
