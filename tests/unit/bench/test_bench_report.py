"""The printed and the stored form of a benchmark record."""

import msgspec
import pytest
from bench.report import render
from bench.results import (
    SCHEMA,
    BenchRecord,
    Figure,
    FigureName,
    LoadReport,
    Machine,
    Measurement,
    PhaseName,
    Ratio,
    Settings,
    SetupName,
    Spread,
    Verdict,
)

HFX = SetupName.HFX_REGULAR


def _measurement(setup: SetupName) -> Measurement:
    load = LoadReport(
        measured_s=1.0, num_requests=1, num_chunks=1, latency_us=None, ttft_us=None,
        delay_us=None, num_errors=0, num_non_200=0, num_incomplete=2, num_stalled=0,
        num_connections=1, cpu_s=0.0,
    )  # fmt: skip
    return Measurement(round_index=0, setup=setup, phase=PhaseName.FLOOD, load=load)


def _record(*, router_cpu_ratio: float = 0.98, broken: tuple[SetupName, ...] = ()) -> BenchRecord:
    settings = Settings(
        num_rounds=3, seconds=4.0, warmup_s=1.0, only=None, sglang_router_version="0.3.2",
        log_level="warn", num_saturating_connections=32, num_ttft_streams=16, num_ttft_tokens=16,
        num_steady_streams=128, num_flood_streams=1000, num_stream_tokens=128,
        token_interval_us=10_000,
    )  # fmt: skip
    machine = Machine(
        cpu_model="A CPU", num_cpus=2, memory_bytes=1, kernel="6", python="3.11", router_core=1,
        load_core=0,
    )  # fmt: skip
    share = Spread(median=router_cpu_ratio, low=router_cpu_ratio, high=router_cpu_ratio)
    return BenchRecord(
        schema=SCHEMA,
        started_at="2026-01-01T00:00:00+00:00",
        commit="0123456789abcdef",
        is_dirty=True,
        machine=machine,
        settings=settings,
        load_average_start=(0.25, 0.0, 0.0),
        load_average_end=(1.5, 0.0, 0.0),
        stolen_cpu_ratio=0.031,
        measurements=[_measurement(setup) for setup in broken],
        worker_counts={},
        figures=[
            Figure(setup=HFX, name=FigureName.REQUESTS_PER_S,
                   spread=Spread(median=30_123.4, low=29_000, high=31_000)),
            Figure(setup=HFX, name=FigureName.ROUTER_CPU_RATIO, spread=share),
            Figure(setup=SetupName.DIRECT, name=FigureName.TTFT_P50_MS,
                   spread=Spread(median=11.0, low=11.0, high=11.0)),
        ],
        ratios=[
            Ratio(setup=HFX, baseline=SetupName.SGLANG_REGULAR, name=FigureName.REQUESTS_PER_S,
                  spread=Spread(median=2.5, low=2.25, high=3.0)),
        ],
        verdicts=[
            Verdict(setup=HFX, target=">= 25,000 requests/s", value=30_123.4, is_met=True),
            Verdict(setup=HFX, target="added TTFT <= 1 ms", value=1.234, is_met=False),
        ],
    )  # fmt: skip


def test_the_report_names_what_the_figures_depend_on() -> None:
    text = render(_record())
    for part in ("0123456789ab with local changes", "sglang-router 0.3.2", "A CPU, 2 CPUs",
                 "3 rounds of 4 s", "Load average 0.25 at the start, 1.50 at the end",
                 "3.1% of the CPU time stolen"):  # fmt: skip
        assert part in text


def test_tables_hold_medians_and_ranges_of_what_was_measured() -> None:
    lines = render(_record()).splitlines()
    assert "|  | requests/s | share of its core |" in lines
    assert "| hfx-router regular | 30,123 (29,000-31,000) | 0.98 |" in lines
    assert "|  | TTFT p50 ms |" in lines
    assert "| direct | 11.00 |" in lines
    assert "| hfx-router regular | 2.50x (2.25-3.00) |" in lines


def test_verdicts_say_pass_or_fail_and_by_how_much() -> None:
    lines = render(_record()).splitlines()
    assert "PASS  hfx-router regular: >= 25,000 requests/s (measured 30,123)" in lines
    assert "FAIL  hfx-router regular: added TTFT <= 1 ms (measured 1.23)" in lines


@pytest.mark.parametrize(("router_cpu_ratio", "is_noted"), [(0.95, False), (0.5, True)])
def test_a_starved_router_is_noted(router_cpu_ratio: float, is_noted: bool) -> None:
    text = render(_record(router_cpu_ratio=router_cpu_ratio))
    assert ("NOTE  hfx-router regular got 50% of its core" in text) is is_noted


def test_failed_requests_are_named() -> None:
    text = render(_record(broken=(HFX, SetupName.SGLANG_PD)))
    assert "BROKEN  round 1, hfx-router regular, flood: 0 broken connections" in text
    assert "NOTE  round 1, sglang-router PD, flood: " in text
    assert "2 incomplete answers" in text


def test_a_record_survives_json_on_one_line_and_refuses_unknown_fields() -> None:
    record = _record()
    line = msgspec.json.encode(record)
    assert b"\n" not in line
    assert msgspec.json.decode(line, type=BenchRecord) == record
    with pytest.raises(msgspec.ValidationError, match="unknown field"):
        msgspec.json.decode(line[:-1] + b',"more":1}', type=BenchRecord)
