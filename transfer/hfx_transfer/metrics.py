"""The `hfx_transfer_*` metrics of one process. Nothing else here knows Prometheus."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from hfx_sgl.errors import TransferFault
from hfx_transfer.engine.protocol import Backend
from hfx_transfer.observer import Direction, ProbeOutcome, TransferKind

TRANSFER_BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30,
                     60, 120, 300)  # fmt: skip
"""From the KV of a short prompt on one host to the weights of a large model over a slow wire."""

HANDOFF_BOUNDS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)

MAX_NAMED_LINKS = 64
"""Links that are told apart by their workers; a fleet has the square of its workers."""

OK = "ok"
"""The outcome of a transfer that had no fault."""


class LinkReading(NamedTuple):
    """One way from a prefill to a decode worker that something is wrong with."""

    prefill: str
    decode: str
    state: str


class LinkCensus(NamedTuple):
    """All links at the moment of a scrape."""

    counts: Mapping[str, int]
    """By state."""
    changes: Mapping[tuple[str, str], int]
    """Since the process started, by the states before and after."""
    remarkable: Iterable[LinkReading]
    """Those that are neither fine nor unheard of, the worst first."""


class TransferMetrics(Collector):
    """Counts what happens to bytes on their way; see `TransferObserver`.

    Args:
        registry: where the families appear; None: in `render` alone.
        links: looked up when somebody scrapes; None where nobody pairs workers.
    """

    def __init__(
        self,
        registry: CollectorRegistry | None = None,
        links: Callable[[], LinkCensus] | None = None,
    ) -> None:
        self._links = links
        own = self._own = CollectorRegistry()
        self._bytes = Counter(
            "hfx_transfer_bytes_total",
            "Bytes of weights and KV that came into this process or left it, by backend and "
            "direction.",
            ("backend", "direction"),
            registry=own,
        )
        self._chunk_failures = Counter(
            "hfx_transfer_chunk_failures_total",
            "Chunks that did not move at one try, by why not.",
            ("backend", "fault"),
            registry=own,
        )
        self._durations_s = Histogram(
            "hfx_transfer_duration_seconds",
            "Time that a whole transfer took: all weights of one pull, or the KV of one prompt.",
            ("kind", "outcome"),
            buckets=TRANSFER_BOUNDS_S,
            registry=own,
        )
        self._sources = Gauge(
            "hfx_transfer_sources",
            "Sources known for the weights that are being pulled.",
            registry=own,
        )
        self._leases = Gauge(
            "hfx_transfer_leases",
            "Loaders that hold a lease on the weights served here.",
            registry=own,
        )
        self._probes = Counter(
            "hfx_transfer_probes_total",
            "Looks at the address where a prefill worker meets its decode workers, by result.",
            ("outcome",),
            registry=own,
        )
        self._handoffs_s = Histogram(
            "hfx_transfer_handoff_seconds",
            "Time of hand-offs of KV between engines that told it, and what was expected of them.",
            ("kind",),
            buckets=HANDOFF_BOUNDS_S,
            registry=own,
        )
        if registry is not None:
            registry.register(self)

    def render(self) -> bytes:
        """Return these families, and nothing else, as Prometheus text."""
        return generate_latest(self)

    # --- TransferObserver ---

    def moved(self, backend: Backend, direction: Direction, num_bytes: int) -> None:
        """See TransferObserver."""
        self._bytes.labels(backend.value, direction.value).inc(num_bytes)

    def chunk_failed(self, backend: Backend, fault: TransferFault) -> None:
        """See TransferObserver."""
        self._chunk_failures.labels(backend.value, fault.value).inc()

    def transfer_ended(
        self, kind: TransferKind, fault: TransferFault | None, duration_s: float
    ) -> None:
        """See TransferObserver."""
        outcome = OK if fault is None else fault.value
        self._durations_s.labels(kind.value, outcome).observe(duration_s)

    def sources(self, num_sources: int) -> None:
        """See TransferObserver."""
        self._sources.set(num_sources)

    def leases(self, num_leases: int) -> None:
        """See TransferObserver."""
        self._leases.set(num_leases)

    def probed(self, outcome: ProbeOutcome) -> None:
        """See TransferObserver."""
        self._probes.labels(outcome.value).inc()

    def handed_over(self, predicted_s: float, observed_s: float) -> None:
        """See TransferObserver."""
        self._handoffs_s.labels("predicted").observe(predicted_s)
        self._handoffs_s.labels("observed").observe(observed_s)

    # --- Collector ---

    def describe(self) -> Iterable[Metric]:
        """Return nothing: the names are fixed, so there is no clash to look for."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Yield every family, also those that have no samples."""
        for family in self._own.collect():
            # When a series began says nothing to anybody here, and would be a series each.
            family.samples = [s for s in family.samples if not s.name.endswith("_created")]
            yield family
        yield from _link_families(LinkCensus({}, {}, ()) if self._links is None else self._links())


def _link_families(census: LinkCensus) -> Iterator[Metric]:
    counts = GaugeMetricFamily(
        "hfx_transfer_links",
        "Ways from a prefill to a decode worker, by what is known of them.",
        labels=("state",),
    )
    for state, count in census.counts.items():
        counts.add_metric((state,), count)
    yield counts
    changes = CounterMetricFamily(
        "hfx_transfer_link_changes_total",
        "Changes of what is known of a way.",
        labels=("from", "to"),
    )
    for (before, after), count in census.changes.items():
        changes.add_metric((before, after), count)
    yield changes
    states = GaugeMetricFamily(
        "hfx_transfer_link_state",
        "1 for each way that something is wrong with, by what it is; the worst ones only.",
        labels=("prefill", "decode", "state"),
    )
    named: dict[tuple[str, str], LinkReading] = {}
    for link in islice(census.remarkable, MAX_NAMED_LINKS):
        # Two records of one worker may share a name while the older one drains.
        named.setdefault((link.prefill, link.decode), link)
    for link in named.values():
        states.add_metric(link, 1)
    yield states
