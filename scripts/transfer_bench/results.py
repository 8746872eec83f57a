"""The schema of one benchmark record: what `bench_transfer --results` writes as JSON.

Values only; every struct is frozen and refuses unknown fields. Figures are derived in `summary`.
"""

from enum import StrEnum

import msgspec

SCHEMA = "hfx.bench_transfer/1"


class Way(StrEnum):
    """How one receiver gets the weights."""

    MEMCPY = "memcpy"
    SOCKETS = "sockets"
    DISK_COLD = "disk-cold"
    DISK_COLD_READS = "disk-cold-reads"
    DISK_WARM = "disk-warm"
    DISK_1000 = "disk-1000"
    DISK_500 = "disk-500"
    DISK_200 = "disk-200"
    BATCH = "batch"
    MOONCAKE = "mooncake"
    SOCKET = "socket"
    SHM_COPY = "shm-copy"
    SHM_CHECKED = "shm-checked"
    SHM = "shm"
    CUDA = "cuda"


class Crowd(StrEnum):
    """How several receivers get them at once."""

    SHM = "many-shm"
    SHM_CHECKED = "many-shm-checked"
    TCP_STAR = "many-tcp-star"
    TCP_PLAN = "many-tcp-plan"
    LINKS_STAR = "many-links-star"
    LINKS_PLAN = "many-links-plan"


class Measurement(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One way in one round."""

    round_index: int
    way: Way
    seconds: float
    cpu_s: float
    """Processor time of both sides, checks afterwards and the making of memory included."""
    disk_bytes: int
    problem: str | None
    """Why it does not count; None when it does."""
    note: str


class CrowdMeasurement(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Several receivers in one round."""

    round_index: int
    crowd: Crowd
    num_receivers: int
    size_bytes: int
    seconds: float
    """From the beginning of the first to the end of the last."""
    cpu_s: float
    predicted_s: float | None
    """What the plan said; None where there was none."""
    problem: str | None
    note: str


class Spread(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A value over the rounds that count."""

    median: float
    low: float
    high: float
    num: int


class Row(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One way over all rounds."""

    way: Way
    seconds: Spread
    bytes_per_s: Spread
    cpu_s: Spread
    num_failed: int


class Ratio(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many times faster a way was than a baseline, paired by round."""

    way: Way
    baseline: Way
    spread: Spread


class CrowdRow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Several receivers over all rounds, against one in the same way, paired by round."""

    crowd: Crowd
    num_receivers: int
    one_s: Spread
    all_s: Spread
    ratio: Spread
    cpu_limit: Spread
    """The least ratio that the processors allow: what all receivers used of them together, spread
    evenly over all cores, against the time of one."""
    predicted_s: float | None


class Verdict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whether one target was reached by the median."""

    target: str
    goal: str
    figure: str
    is_reached: bool | None
    """None: nothing was run that could tell."""


class Machine(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where it ran."""

    cpu_model: str
    num_cpus: int
    memory_bytes: int
    kernel: str
    python: str
    disk: str


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How it ran."""

    num_rounds: int
    num_crowd_rounds: int
    size_bytes: int
    num_tensors: int
    num_receivers: int
    link_bytes_per_s: float
    link_size_bytes: int
    only: list[str]


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
    not_run: dict[str, str]
    """Ways that were asked for and could not be run, with the reason."""
    measurements: list[Measurement]
    crowd_measurements: list[CrowdMeasurement]
    rows: list[Row]
    ratios: list[Ratio]
    crowd_rows: list[CrowdRow]
    verdicts: list[Verdict]
