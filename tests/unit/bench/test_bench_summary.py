"""Figures, ratios and verdicts of the router benchmark."""

import pytest
from bench.results import (
    FigureName,
    LoadReport,
    Measurement,
    Percentiles,
    PhaseName,
    SetupName,
    Spread,
    WorkerCounts,
)
from bench.summary import (
    TARGETS,
    Target,
    collect,
    figures_of,
    problems_of,
    ratios_of,
    spread_of,
    verdicts_of,
)


def _load(
    *,
    cpu_s: float = 1.0,
    num_requests: int = 0,
    num_chunks: int = 0,
    p50_us: float = 0.0,
    num_errors: int = 0,
    num_non_200: int = 0,
    num_incomplete: int = 0,
    num_stalled: int = 0,
) -> LoadReport:
    percentiles = Percentiles(p50=p50_us, p90=p50_us * 2, p99=p50_us * 3, num=10)
    return LoadReport(
        measured_s=2.0,
        num_requests=num_requests,
        num_chunks=num_chunks,
        latency_us=percentiles,
        ttft_us=percentiles,
        delay_us=percentiles,
        num_errors=num_errors,
        num_non_200=num_non_200,
        num_incomplete=num_incomplete,
        num_stalled=num_stalled,
        num_connections=1,
        cpu_s=cpu_s,
    )


def _item(
    setup: SetupName, phase: PhaseName, load: LoadReport, round_index: int = 0
) -> Measurement:
    return Measurement(round_index=round_index, setup=setup, phase=phase, load=load)


HFX, SGLANG, DIRECT = SetupName.HFX_REGULAR, SetupName.SGLANG_REGULAR, SetupName.DIRECT


@pytest.mark.parametrize(
    ("phase", "load", "expected"),
    [
        (PhaseName.SATURATED, _load(num_requests=50_000),
         {FigureName.REQUESTS_PER_S: 25_000, FigureName.CPU_PER_REQUEST_US: 20,
          FigureName.ROUTER_CPU_RATIO: 0.5}),
        (PhaseName.SATURATED, _load(num_requests=50_000, cpu_s=0),
         {FigureName.REQUESTS_PER_S: 25_000}),
        (PhaseName.SINGLE, _load(p50_us=100),
         {FigureName.LATENCY_P50_US: 100, FigureName.LATENCY_P99_US: 300}),
        (PhaseName.TTFT, _load(p50_us=11_000), {FigureName.TTFT_P50_MS: 11}),
        (PhaseName.STEADY, _load(num_chunks=100_000, p50_us=150),
         {FigureName.CPU_PER_CHUNK_US: 10, FigureName.DELAY_P50_US: 150,
          FigureName.DELAY_P99_US: 450}),
        (PhaseName.FLOOD, _load(num_chunks=190_000, p50_us=1500),
         {FigureName.DELIVERED_CHUNKS_PER_S: 95_000, FigureName.DELIVERED_DELAY_P50_MS: 1.5,
          FigureName.DELIVERED_DELAY_P99_MS: 4.5}),
    ],
)  # fmt: skip
def test_each_phase_gives_its_figures(
    phase: PhaseName, load: LoadReport, expected: dict[FigureName, float]
) -> None:
    series = collect([_item(HFX, phase, load)])
    assert {name: values[0] for (_, name), values in series.items()} == pytest.approx(expected)


def test_added_ttft_is_against_direct_of_the_same_round() -> None:
    measured = [(DIRECT, 0, 10_000), (DIRECT, 1, 12_000), (HFX, 0, 10_500), (HFX, 1, 12_100),
                (HFX, 2, 99_000)]  # fmt: skip
    series = collect(
        _item(setup, PhaseName.TTFT, _load(p50_us=p50), index) for setup, index, p50 in measured
    )
    assert series[HFX, FigureName.ADDED_TTFT_MS] == pytest.approx({0: 0.5, 1: 0.1})
    assert (DIRECT, FigureName.ADDED_TTFT_MS) not in series


def test_ratios_are_paired_by_round() -> None:
    measured = [(SGLANG, 0, 1.0), (SGLANG, 1, 4.0), (HFX, 0, 0.5), (HFX, 1, 1.0)]
    ratios = ratios_of(
        collect(
            _item(setup, PhaseName.SATURATED, _load(cpu_s=cpu_s, num_requests=1000), index)
            for setup, index, cpu_s in measured
        )
    )
    by_name = {ratio.name: ratio for ratio in ratios}
    assert by_name[FigureName.CPU_PER_REQUEST_US].spread == Spread(median=0.375, low=0.25, high=0.5)
    assert by_name[FigureName.CPU_PER_REQUEST_US].baseline is SGLANG
    assert FigureName.ROUTER_CPU_RATIO not in by_name


def test_spread() -> None:
    assert spread_of([3.0, 1.0, 8.0]) == Spread(median=3.0, low=1.0, high=8.0)


@pytest.mark.parametrize(
    ("is_floor", "value", "is_met"),
    [(True, 9.9, False), (True, 10.0, True), (False, 10.0, True), (False, 10.1, False)],
)
def test_a_target_is_a_floor_or_a_ceiling(is_floor: bool, value: float, is_met: bool) -> None:
    target = Target(
        setup=HFX, name=FigureName.REQUESTS_PER_S, bound=10.0, is_floor=is_floor, text="t"
    )
    assert target.judge(value).is_met is is_met


def test_the_goals_of_the_byte_path_are_all_judged() -> None:
    bounds = {(t.setup, t.name): (t.bound, t.is_floor, t.is_ratio) for t in TARGETS}
    for setup, requests_per_s in ((HFX, 25_000), (SetupName.HFX_PD, 20_000)):
        assert bounds[setup, FigureName.REQUESTS_PER_S] == (requests_per_s, True, False)
        assert bounds[setup, FigureName.CPU_PER_REQUEST_US] == (0.5, False, True)
        assert bounds[setup, FigureName.CPU_PER_CHUNK_US] == (1.0, False, True)
        assert bounds[setup, FigureName.ADDED_TTFT_MS] == (1.0, False, False)
        assert bounds[setup, FigureName.DELIVERED_CHUNKS_PER_S] == (90_000, True, False)
        assert bounds[setup, FigureName.DELIVERED_DELAY_P50_MS] == (2.0, False, False)


def test_only_what_was_measured_is_judged_and_ratios_by_their_ratio() -> None:
    series = collect(
        [
            _item(SGLANG, PhaseName.SATURATED, _load(cpu_s=2.0, num_requests=60_000)),
            _item(HFX, PhaseName.SATURATED, _load(cpu_s=1.0, num_requests=60_000)),
        ]
    )
    verdicts = verdicts_of(figures_of(series), ratios_of(series))
    assert [(v.setup, v.value, v.is_met) for v in verdicts] == [
        (HFX, 30_000, True),
        (HFX, 0.5, True),
    ]


@pytest.mark.parametrize(
    ("setup", "load", "fatal"),
    [
        (HFX, _load(), []),
        (HFX, _load(num_errors=1), [True]),
        (HFX, _load(num_non_200=1), [True]),
        (HFX, _load(num_stalled=1), [True]),
        (HFX, _load(num_incomplete=1), [True]),
        (DIRECT, _load(num_incomplete=1), [True]),
        (SGLANG, _load(num_errors=1), [True]),
        (SGLANG, _load(num_incomplete=1), [False]),
    ],
)
def test_failed_requests_break_a_run(setup: SetupName, load: LoadReport, fatal: list[bool]) -> None:
    problems = problems_of([_item(setup, PhaseName.FLOOD, load)], {})
    assert [problem.is_fatal for problem in problems] == fatal
    assert all(f"{setup}, flood: " in problem.text for problem in problems)


def _counts(num_posts: int, num_bootstrapped: int) -> WorkerCounts:
    return WorkerCounts(
        num_posts=num_posts,
        num_streams=0,
        num_bootstrapped=num_bootstrapped,
        num_aborts=5,
        num_probes=0,
        num_connections=1,
    )


@pytest.mark.parametrize(
    ("prefill", "decode", "problem"),
    [
        (_counts(1002, 1000), _counts(1002, 1000), ""),
        (_counts(980, 978), _counts(1002, 1000), ""),
        (_counts(1003, 1000), _counts(1002, 1000), "prefill leg"),
        (_counts(1002, 1000), _counts(1002, 0), "decode leg"),
        (_counts(502, 500), _counts(1002, 1000), "502 prefill legs, but 1002 decode"),
    ],
)
def test_pd_requests_must_reach_both_legs(
    prefill: WorkerCounts, decode: WorkerCounts, problem: str
) -> None:
    problems = problems_of([], {"prefill": prefill, "decode": decode})
    assert all(item.is_fatal for item in problems)
    assert [problem in item.text for item in problems] == [True] * bool(problem)


def test_without_pd_there_are_no_legs() -> None:
    assert problems_of([], {"null": _counts(5, 0)}) == []
