"""Plain counts in, Prometheus families out. Knows the exposition format and nothing of routing."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.utils import floatToGoString

from hfx_router.metrics.histogram import Histogram

Labels = tuple[str, ...]


def grouped(pairs: Iterable[tuple[Labels, Histogram]]) -> dict[Labels, list[Histogram]]:
    """Collect histograms that belong under one set of label values."""
    groups: dict[Labels, list[Histogram]] = {}
    for key, histogram in pairs:
        groups.setdefault(key, []).append(histogram)
    return groups


def summed(pairs: Iterable[tuple[Labels, int]]) -> Counter[Labels]:
    """Add up counts that belong under one set of label values."""
    sums: Counter[Labels] = Counter()
    for key, count in pairs:
        sums[key] += count
    return sums


def cumulative_buckets(parts: Sequence[Histogram]) -> list[tuple[str, float]]:
    """Return (`le`, cumulative count) of all parts together; they share their bounds."""
    bounds = [_le(bound) for bound in parts[0].bounds] + ["+Inf"]
    buckets: list[tuple[str, float]] = []
    num_below = 0
    for bound, counts in zip(
        bounds, zip(*(part.counts for part in parts), strict=True), strict=True
    ):
        num_below += sum(counts)
        buckets.append((bound, num_below))
    return buckets


def histogram_family(
    name: str,
    documentation: str,
    label_names: Sequence[str],
    groups: Mapping[Labels, Sequence[Histogram]],
) -> HistogramMetricFamily:
    """Build a histogram family with one histogram for each set of label values."""
    family = HistogramMetricFamily(name, documentation, labels=label_names)
    for labels, parts in groups.items():
        family.add_metric(labels, cumulative_buckets(parts), sum(part.total for part in parts))
    return family


def counter_family(
    name: str, documentation: str, label_names: Sequence[str], values: Mapping[Labels, float]
) -> CounterMetricFamily:
    """Build a counter family; `name` may carry the `_total` that samples have."""
    family = CounterMetricFamily(name, documentation, labels=label_names)
    for labels, value in values.items():
        family.add_metric(labels, value)
    return family


def gauge_family(
    name: str, documentation: str, label_names: Sequence[str], values: Mapping[Labels, float]
) -> GaugeMetricFamily:
    """Build a gauge family."""
    family = GaugeMetricFamily(name, documentation, labels=label_names)
    for labels, value in values.items():
        family.add_metric(labels, value)
    return family


def _le(bound: float) -> str:
    return str(floatToGoString(bound))  # type: ignore[no-untyped-call]
