"""The summary of a run. Field names are the keys of `summary.json`.

Keys that `sglang.bench_serving` also writes mean the same here, so that results can be laid side by
side: latencies, token totals and throughputs are those of completed requests, `duration` runs from
the start to the end of the last answer, attainment counts every arrival. A figure that nothing was
measured for is absent, never 0.
"""

import msgspec


class ServingMetrics(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of a set of requests. Throughputs are per second of `duration`."""

    num_requests: int
    """Every arrival, whatever became of it."""
    completed: int
    rejected: int
    failed: int
    timed_out: int
    duration: float
    """Seconds."""
    total_input_tokens: int
    total_output_tokens: int
    num_cached_tokens: int
    """Input tokens that the engines found in their prefix caches."""
    request_throughput: float | None = None
    input_throughput: float | None = None
    output_throughput: float | None = None
    total_throughput: float | None = None
    concurrency: float | None = None
    """Completed requests under way at a time, on average."""

    request_goodput: float | None = None
    """Requests per second that completed and kept every promise."""
    slo_attainment: float | None = None
    """Their share (0..1) of all arrivals."""
    slo_attainment_by_metric: dict[str, float] | None = None
    """The same for each bound alone, of the arrivals that were promised it. Keys: `ttft`, `tpot`,
    `e2el`."""
    goodput_slos_ms: dict[str, float] | None = None
    """The promises, with the same keys; absent where not all requests were promised the same."""

    mean_ttft_ms: float | None = None
    median_ttft_ms: float | None = None
    std_ttft_ms: float | None = None
    p90_ttft_ms: float | None = None
    p95_ttft_ms: float | None = None
    p99_ttft_ms: float | None = None

    mean_tpot_ms: float | None = None
    median_tpot_ms: float | None = None
    std_tpot_ms: float | None = None
    p90_tpot_ms: float | None = None
    p95_tpot_ms: float | None = None
    p99_tpot_ms: float | None = None

    mean_itl_ms: float | None = None
    median_itl_ms: float | None = None
    std_itl_ms: float | None = None
    p90_itl_ms: float | None = None
    p95_itl_ms: float | None = None
    p99_itl_ms: float | None = None

    mean_e2e_latency_ms: float | None = None
    median_e2e_latency_ms: float | None = None
    std_e2e_latency_ms: float | None = None
    p90_e2e_latency_ms: float | None = None
    p95_e2e_latency_ms: float | None = None
    p99_e2e_latency_ms: float | None = None


class WorstClass(msgspec.Struct, frozen=True, kw_only=True):
    """The class with the lowest attainment; of several, the first by name."""

    name: str
    slo_attainment: float


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """A run's figures, overall and per class in order of name."""

    overall: ServingMetrics
    classes: dict[str, ServingMetrics]
    worst_class: WorstClass | None
    """None for a run without requests."""
