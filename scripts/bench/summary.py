"""From measurements to figures, ratios and verdicts. Arithmetic only."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from bench.results import (
    Figure,
    FigureName,
    LoadReport,
    Measurement,
    PhaseName,
    Ratio,
    SetupName,
    Spread,
    Verdict,
    WorkerCounts,
)

BASELINES = {
    SetupName.HFX_REGULAR: SetupName.SGLANG_REGULAR,
    SetupName.HFX_CACHE_AWARE: SetupName.SGLANG_REGULAR,
    SetupName.HFX_SCHEDULED: SetupName.SGLANG_REGULAR,
    SetupName.HFX_PD: SetupName.SGLANG_PD,
    SetupName.HFX_PD_SCHEDULED: SetupName.SGLANG_PD,
}
"""Whose figures ours are divided by."""

UNPAIRED = (FigureName.ADDED_TTFT_MS, FigureName.ROUTER_CPU_RATIO)
"""Figures whose ratio would say nothing: a difference, and a share of the core."""

LEG_BALANCE_RATIO = 0.95
"""Requests that the end of a phase cuts off may have reached one leg only."""

Series = dict[tuple[SetupName, FigureName], dict[int, float]]
"""Values by round index."""


def _cpu_us(load: LoadReport, num: int) -> float | None:
    return load.cpu_s * 1e6 / num if load.cpu_s and num else None


def _percentile(name: str, field: str, divisor: float) -> Callable[[LoadReport], float | None]:
    def read(load: LoadReport) -> float | None:
        percentiles = getattr(load, field)
        return None if percentiles is None else getattr(percentiles, name) / divisor

    return read


READINGS: dict[PhaseName, dict[FigureName, Callable[[LoadReport], float | None]]] = {
    PhaseName.SATURATED: {
        FigureName.REQUESTS_PER_S: lambda load: load.num_requests / load.measured_s,
        FigureName.CPU_PER_REQUEST_US: lambda load: _cpu_us(load, load.num_requests),
        FigureName.ROUTER_CPU_RATIO: lambda load: load.cpu_s / load.measured_s or None,
    },
    PhaseName.SINGLE: {
        FigureName.LATENCY_P50_US: _percentile("p50", "latency_us", 1),
        FigureName.LATENCY_P99_US: _percentile("p99", "latency_us", 1),
    },
    PhaseName.TTFT: {FigureName.TTFT_P50_MS: _percentile("p50", "ttft_us", 1000)},
    PhaseName.STEADY: {
        FigureName.CPU_PER_CHUNK_US: lambda load: _cpu_us(load, load.num_chunks),
        FigureName.DELAY_P50_US: _percentile("p50", "delay_us", 1),
        FigureName.DELAY_P99_US: _percentile("p99", "delay_us", 1),
    },
    PhaseName.FLOOD: {
        FigureName.DELIVERED_CHUNKS_PER_S: lambda load: load.num_chunks / load.measured_s,
        FigureName.DELIVERED_DELAY_P50_MS: _percentile("p50", "delay_us", 1000),
        FigureName.DELIVERED_DELAY_P99_MS: _percentile("p99", "delay_us", 1000),
    },
}
"""What each phase is measured for. None: this run cannot tell."""


def collect(measurements: Iterable[Measurement]) -> Series:
    """Read every figure off the measurements; added TTFT is against `direct` of the same round."""
    series: Series = {}
    for item in measurements:
        for name, read in READINGS[item.phase].items():
            value = read(item.load)
            if value is not None:
                series.setdefault((item.setup, name), {})[item.round_index] = value
    floor = series.get((SetupName.DIRECT, FigureName.TTFT_P50_MS), {})
    for setup in SetupName:
        ttft = series.get((setup, FigureName.TTFT_P50_MS), {})
        rounds = ttft.keys() & floor.keys()
        if setup is not SetupName.DIRECT and rounds:
            series[setup, FigureName.ADDED_TTFT_MS] = {i: ttft[i] - floor[i] for i in rounds}
    return series


def figures_of(series: Series) -> list[Figure]:
    """Return one figure per series, in the order of the enums."""
    return [
        Figure(setup=setup, name=name, spread=spread_of(list(series[setup, name].values())))
        for setup in SetupName
        for name in FigureName
        if (setup, name) in series
    ]


def ratios_of(series: Series) -> list[Ratio]:
    """Divide our figures by the baseline's of the same round."""
    ratios = []
    for setup, baseline in BASELINES.items():
        for name in FigureName:
            ours, theirs = series.get((setup, name), {}), series.get((baseline, name), {})
            values = [ours[i] / theirs[i] for i in ours.keys() & theirs.keys() if theirs[i]]
            if values and name not in UNPAIRED:
                spread = spread_of(values)
                ratios.append(Ratio(setup=setup, baseline=baseline, name=name, spread=spread))
    return ratios


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A phase whose requests did not all get what they asked for."""

    text: str
    is_fatal: bool
    """The run is broken. An incomplete answer of sglang-router is a finding about it instead:
    saturated in PD mode, version 0.3.2 sometimes ends a stream without its `[DONE]`."""


def problems_of(
    measurements: Iterable[Measurement], worker_counts: Mapping[str, WorkerCounts]
) -> list[Problem]:
    """Return what went wrong: in the phases, in order, then between the legs of PD requests."""
    problems = []
    for item in measurements:
        load = item.load
        if not load.num_failed and not load.num_incomplete:
            continue
        text = (
            f"round {item.round_index + 1}, {item.setup}, {item.phase}: "
            f"{load.num_errors} broken connections, {load.num_non_200} answers other than 200, "
            f"{load.num_stalled} stalled connections, {load.num_incomplete} incomplete answers"
        )
        is_theirs = item.setup in BASELINES.values()
        problems.append(Problem(text=text, is_fatal=load.num_failed > 0 or not is_theirs))
    return problems + [Problem(text=text, is_fatal=True) for text in leg_problems(worker_counts)]


def leg_problems(worker_counts: Mapping[str, WorkerCounts]) -> list[str]:
    """Say where PD requests did not reach both legs, or without a bootstrap room."""
    if "prefill" not in worker_counts:
        return []
    prefill, decode = worker_counts["prefill"], worker_counts["decode"]
    problems = [
        f"{role} leg: {worker.num_posts - worker.num_bootstrapped} requests without a room"
        for role, worker in (("prefill", prefill), ("decode", decode))
        # A started worker is checked by two requests that come past the routers.
        if worker.num_posts - worker.num_bootstrapped > 2
    ]
    few, many = sorted((prefill.num_posts, decode.num_posts))
    if few < LEG_BALANCE_RATIO * many:
        problems.append(f"{prefill.num_posts} prefill legs, but {decode.num_posts} decode legs")
    return problems


def spread_of(values: Sequence[float]) -> Spread:
    """Return median, smallest and largest of at least one value."""
    return Spread(median=median(values), low=min(values), high=max(values))


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A bound on the median of a figure, or of its ratio to sglang-router's."""

    setup: SetupName
    name: FigureName
    bound: float
    is_floor: bool
    is_ratio: bool = False
    text: str

    def judge(self, value: float) -> Verdict:
        """Compare the value, as it will be printed, with the bound."""
        is_met = value >= self.bound if self.is_floor else value <= self.bound
        return Verdict(setup=self.setup, target=self.text, value=value, is_met=is_met)


def _targets_for(setup: SetupName, requests_per_s: float) -> list[Target]:
    return [
        Target(setup=setup, name=FigureName.REQUESTS_PER_S, bound=requests_per_s, is_floor=True,
               text=f">= {requests_per_s:,.0f} requests/s"),
        Target(setup=setup, name=FigureName.CPU_PER_REQUEST_US, bound=0.5, is_floor=False,
               is_ratio=True, text="CPU per request <= 0.5 x sglang-router"),
        Target(setup=setup, name=FigureName.CPU_PER_CHUNK_US, bound=1.0, is_floor=False,
               is_ratio=True, text="CPU per chunk <= 1.0 x sglang-router"),
        Target(setup=setup, name=FigureName.ADDED_TTFT_MS, bound=1.0, is_floor=False,
               text="added TTFT <= 1 ms"),
        Target(setup=setup, name=FigureName.DELIVERED_CHUNKS_PER_S, bound=90_000, is_floor=True,
               text=">= 90,000 of 100,000 chunks/s delivered"),
        Target(setup=setup, name=FigureName.DELIVERED_DELAY_P50_MS, bound=2.0, is_floor=False,
               text="p50 delay of those chunks <= 2 ms"),
    ]  # fmt: skip


TARGETS: tuple[Target, ...] = (
    *_targets_for(SetupName.HFX_REGULAR, 25_000),
    *_targets_for(SetupName.HFX_CACHE_AWARE, 25_000)[:2],
    *_targets_for(SetupName.HFX_SCHEDULED, 25_000),
    *_targets_for(SetupName.HFX_PD, 20_000),
    *_targets_for(SetupName.HFX_PD_SCHEDULED, 20_000),
)
"""The byte path's goals on one core."""


def verdicts_of(figures: Iterable[Figure], ratios: Iterable[Ratio]) -> list[Verdict]:
    """Judge every target for which there is a median."""
    values = {(item.setup, item.name, False): item.spread.median for item in figures}
    values |= {(item.setup, item.name, True): item.spread.median for item in ratios}
    return [
        target.judge(values[target.setup, target.name, target.is_ratio])
        for target in TARGETS
        if (target.setup, target.name, target.is_ratio) in values
    ]
