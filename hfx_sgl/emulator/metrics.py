"""`/metrics` of one worker: SGLang's names, from the engine's load and from finished requests."""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from hfx_sgl.engine.load import EngineLoad
from hfx_sgl.types import Role

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_ENGINE_TYPES = {Role.REGULAR: "unified", Role.PREFILL: "prefill", Role.DECODE: "decode"}

_GAUGES: tuple[tuple[str, Callable[[EngineLoad], float]], ...] = (
    ("num_running_reqs", lambda load: load.num_running_reqs),
    ("num_queue_reqs", lambda load: load.num_waiting_reqs),
    ("num_used_tokens", lambda load: load.num_used_tokens),
    ("token_usage", lambda load: load.token_usage),
    ("full_token_usage", lambda load: load.token_usage),
    ("kv_available_tokens", lambda load: load.max_total_num_tokens - load.num_used_tokens),
    ("max_total_num_tokens", lambda load: load.max_total_num_tokens),
    ("gen_throughput", lambda load: load.gen_throughput),
    ("cache_hit_rate", lambda load: load.cache_hit_rate),
    ("utilization", lambda load: load.utilization),
    ("num_prefill_bootstrap_queue_reqs", lambda load: load.prefill_bootstrap_queue_reqs),
    ("num_prefill_inflight_queue_reqs", lambda load: load.prefill_inflight_queue_reqs),
    ("num_decode_prealloc_queue_reqs", lambda load: load.decode_prealloc_queue_reqs),
    ("num_decode_transfer_queue_reqs", lambda load: load.decode_transfer_queue_reqs),
    ("num_retracted_reqs", lambda load: load.decode_retracted_queue_reqs),
    ("kv_transfer_speed_gb_s", lambda load: load.kv_transfer_speed_gb_s),
    ("kv_transfer_latency_ms", lambda load: load.kv_transfer_latency_ms),
)
_FIRST_TOKEN_S = (
    0.1, 0.2, 0.4, 0.6, 0.8, 1, 2, 4, 6, 8, 10, 20, 40, 60, 80, 100, 200, 400,
)  # fmt: skip
_REQUEST_S = (*_FIRST_TOKEN_S, 600, 1200, 1800, 2400)
_TOKEN_S = (
    0.002, 0.004, 0.006, 0.008, 0.010, 0.015, 0.020, 0.025, 0.030, 0.035, 0.040, 0.060, 0.080,
    0.1, 0.2, 0.4, 0.6, 0.8, 1, 2, 4, 6, 8,
)  # fmt: skip
_QUEUE_S = (
    0.0, 0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 3, 4, 5, 10, 15, 20, 30, 40, 50, 60,
    70, 80, 90, 100, 200, 300, 400, 500, 600, 700, 800, 900, 1000, 1200, 1400, 1600, 1800, 2000,
    2500, 3000,
)  # fmt: skip


class Buckets:
    """One histogram. A call costs a fraction of a microsecond, as there is one for each token."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float, num: int = 1) -> None:
        """Count a value `num` times."""
        self._counts[bisect_left(self._bounds, value)] += num
        self._sum += value * num

    def add_to(self, family: HistogramMetricFamily, labels: Sequence[str]) -> None:
        """Write it out, cumulated as Prometheus wants it."""
        names = [*(str(float(bound)) for bound in self._bounds), "+Inf"]
        rows = list(zip(names, accumulate(self._counts), strict=True))
        family.add_metric(labels, rows, self._sum)


class WorkerMetrics(Collector):
    """Gathers what one worker exports.

    Args:
        read_load: returns the engine's load at the moment of a scrape.
        read_role: returns what the worker does at present.
    """

    def __init__(
        self,
        model_name: str,
        *,
        read_load: Callable[[], EngineLoad],
        read_role: Callable[[], Role],
    ) -> None:
        self._model_name = model_name
        self._read_load = read_load
        self._read_role = read_role
        self._first_token = {streams: Buckets(_FIRST_TOKEN_S) for streams in (False, True)}
        self._per_token = {streams: Buckets(_TOKEN_S) for streams in (False, True)}
        self._request = {streams: Buckets(_REQUEST_S) for streams in (False, True)}
        self._gap = Buckets(_TOKEN_S)
        self._queue = Buckets(_QUEUE_S)
        self._num_prompt = {False: 0, True: 0}
        self._num_generated = {False: 0, True: 0}
        self._num_requests = {False: 0, True: 0}
        self._num_cached = 0
        self._num_aborted = 0
        self.observe_gap = self._gap.observe

    def observe_end(
        self,
        *,
        streams: bool,
        num_prompt_tokens: int,
        num_cached_tokens: int,
        num_output_tokens: int,
        queue_s: float,
        first_token_s: float | None,
        request_s: float,
        was_aborted: bool,
    ) -> None:
        """Count a request that has ended; `first_token_s` and `request_s` since it came."""
        self._num_requests[streams] += 1
        self._num_prompt[streams] += num_prompt_tokens
        self._num_generated[streams] += num_output_tokens
        self._num_cached += num_cached_tokens
        self._num_aborted += was_aborted
        self._queue.observe(queue_s)
        self._request[streams].observe(request_s)
        if first_token_s is not None:
            self._first_token[streams].observe(first_token_s)
            if num_output_tokens > 1:
                per_token_s = (request_s - first_token_s) / (num_output_tokens - 1)
                self._per_token[streams].observe(per_token_s)

    def render(self) -> bytes:
        """Return the page."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        return generate_latest(registry)

    def describe(self) -> list[Metric]:
        """Return nothing: names are checked when the page is rendered."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Return all families."""
        load = self._read_load()
        model = (self._model_name, _ENGINE_TYPES[self._read_role()])
        ranks = (*model, "0", "0", "0")
        for name, read in _GAUGES:
            gauge = GaugeMetricFamily(f"sglang:{name}", name, labels=_RANK_LABELS)
            gauge.add_metric(ranks, read(load))
            yield gauge
        retracted = CounterMetricFamily(
            "sglang:num_retracted_requests", "Retractions.", labels=_RANK_LABELS
        )
        retracted.add_metric(ranks, load.num_retractions)
        yield retracted
        yield self._histogram("queue_time_seconds", self._queue, ranks, _RANK_LABELS)
        yield self._histogram("inter_token_latency_seconds", self._gap, model, _MODEL_LABELS)
        yield from self._request_families(model)

    def _request_families(self, model: tuple[str, ...]) -> Iterator[Metric]:
        labels = (*_MODEL_LABELS, "is_streaming")
        for name, histograms in (
            ("time_to_first_token_seconds", self._first_token),
            ("request_time_per_output_token_seconds", self._per_token),
            ("e2e_request_latency_seconds", self._request),
        ):
            family = HistogramMetricFamily(f"sglang:{name}", name, labels=labels)
            for streams, buckets in histograms.items():
                buckets.add_to(family, (*model, str(streams).lower()))
            yield family
        for name, counts in (
            ("prompt_tokens", self._num_prompt),
            ("generation_tokens", self._num_generated),
            ("num_requests", self._num_requests),
        ):
            counter = CounterMetricFamily(f"sglang:{name}", name, labels=labels)
            for streams, num in counts.items():
                counter.add_metric((*model, str(streams).lower()), num)
            yield counter
        cached = CounterMetricFamily(
            "sglang:cached_tokens", "Prompt tokens found in the cache.",
            labels=(*_MODEL_LABELS, "cache_source"),
        )  # fmt: skip
        cached.add_metric((*model, "total"), self._num_cached)
        yield cached
        aborted = CounterMetricFamily(
            "sglang:num_aborted_requests", "Aborted requests.", labels=_MODEL_LABELS
        )
        aborted.add_metric(model, self._num_aborted)
        yield aborted

    @staticmethod
    def _histogram(
        name: str, buckets: Buckets, values: Sequence[str], labels: Sequence[str]
    ) -> HistogramMetricFamily:
        family = HistogramMetricFamily(f"sglang:{name}", name, labels=labels)
        buckets.add_to(family, values)
        return family


_MODEL_LABELS = ("model_name", "engine_type")
_RANK_LABELS = (*_MODEL_LABELS, "tp_rank", "pp_rank", "moe_ep_rank")
