"""The schema of one benchmark record: what `bench_router --output-file` appends as a JSON line.

Values only; every struct is frozen and refuses unknown fields. Figures are derived in `summary`.
"""

from enum import StrEnum

import msgspec

SCHEMA = "hfx.bench_router/1"


class SetupName(StrEnum):
    """Who answers the load."""

    DIRECT = "direct"
    SGLANG_REGULAR = "sglang-router regular"
    HFX_REGULAR = "hfx-router regular"
    HFX_CACHE_AWARE = "hfx-router cache_aware"
    HFX_SCHEDULED = "hfx-router hfx"
    SGLANG_PD = "sglang-router PD"
    HFX_PD = "hfx-router PD"
    HFX_PD_SCHEDULED = "hfx-router PD hfx"


class PhaseName(StrEnum):
    """What is asked of it."""

    SATURATED = "saturated"
    SINGLE = "single"
    TTFT = "ttft"
    STEADY = "steady"
    FLOOD = "flood"


class FigureName(StrEnum):
    """What is read off a phase. The unit is the end of the name."""

    REQUESTS_PER_S = "requests_per_s"
    CPU_PER_REQUEST_US = "cpu_per_request_us"
    ROUTER_CPU_RATIO = "router_cpu_ratio"
    LATENCY_P50_US = "latency_p50_us"
    LATENCY_P99_US = "latency_p99_us"
    TTFT_P50_MS = "ttft_p50_ms"
    ADDED_TTFT_MS = "added_ttft_ms"
    CPU_PER_CHUNK_US = "cpu_per_chunk_us"
    DELAY_P50_US = "delay_p50_us"
    DELAY_P99_US = "delay_p99_us"
    DELIVERED_CHUNKS_PER_S = "delivered_chunks_per_s"
    DELIVERED_DELAY_P50_MS = "delivered_delay_p50_ms"
    DELIVERED_DELAY_P99_MS = "delivered_delay_p99_ms"


class Percentiles(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A distribution in the unit that the field's name ends in."""

    p50: float
    p90: float
    p99: float
    num: int


class LoadReport(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `load_client` printed about one phase. Errors include those of the warm-up."""

    measured_s: float
    num_requests: int
    num_chunks: int
    latency_us: Percentiles | None
    ttft_us: Percentiles | None
    delay_us: Percentiles | None
    num_errors: int
    num_non_200: int
    num_incomplete: int
    num_stalled: int
    num_connections: int
    cpu_s: float
    """CPU seconds of the router process; 0 when there was none."""

    @property
    def num_failed(self) -> int:
        """Requests without an answer, or with a status other than 200."""
        return self.num_errors + self.num_non_200 + self.num_stalled


class Measurement(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One phase of one setup in one round."""

    round_index: int
    setup: SetupName
    phase: PhaseName
    load: LoadReport


class WorkerCounts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a mock worker counted in the whole run."""

    num_posts: int
    """Inference requests."""
    num_streams: int
    num_bootstrapped: int
    """Those of them that carry a bootstrap room."""
    num_aborts: int
    num_probes: int
    num_connections: int


class Spread(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A value over the rounds."""

    median: float
    low: float
    high: float


class Figure(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One cell of the table."""

    setup: SetupName
    name: FigureName
    spread: Spread


class Ratio(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One of our figures over sglang-router's, paired by round."""

    setup: SetupName
    baseline: SetupName
    name: FigureName
    spread: Spread


class Verdict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whether one target was met by the median."""

    setup: SetupName
    target: str
    value: float
    is_met: bool


class Machine(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where it ran."""

    cpu_model: str
    num_cpus: int
    memory_bytes: int
    kernel: str
    python: str
    router_core: int
    load_core: int


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How it ran."""

    num_rounds: int
    seconds: float
    warmup_s: float
    only: str | None
    sglang_router_version: str
    log_level: str
    """Given to both routers."""
    num_saturating_connections: int
    num_ttft_streams: int
    num_ttft_tokens: int
    num_steady_streams: int
    num_flood_streams: int
    num_stream_tokens: int
    token_interval_us: int


class BenchRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One run."""

    schema: str
    started_at: str
    """ISO 8601, UTC."""
    commit: str | None
    """None outside a git checkout."""
    is_dirty: bool | None
    machine: Machine
    settings: Settings
    load_average_start: tuple[float, float, float]
    load_average_end: tuple[float, float, float]
    stolen_cpu_ratio: float
    """Share of all cores' time that the hypervisor gave to others."""
    measurements: list[Measurement]
    worker_counts: dict[str, WorkerCounts]
    figures: list[Figure]
    ratios: list[Ratio]
    verdicts: list[Verdict]
