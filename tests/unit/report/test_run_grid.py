"""Runs arranged by cluster, policy and load, and the tables made of them."""

from pathlib import Path

import pytest

from hfx_sgl.errors import ConfigError
from hfx_sgl.report.grid import RunGrid, arrange, cluster_title, detail_load_factor
from hfx_sgl.report.tables import attainment_of, class_table, load_table
from hfx_sgl.results.reader import Run
from hfx_sgl.results.run import RunInfo
from hfx_sgl.results.summary import ServingMetrics, Summary, WorstClass


def metrics(attainment: float, median_ttft_ms: float | None = None) -> ServingMetrics:
    return ServingMetrics(
        num_requests=100,
        completed=100,
        rejected=0,
        failed=0,
        timed_out=0,
        duration=10.0,
        total_input_tokens=1,
        total_output_tokens=1,
        num_cached_tokens=0,
        slo_attainment=attainment,
        median_ttft_ms=median_ttft_ms,
    )


def run(policy: str, load_factor: float, seed: int, attainment: float, **more: float) -> Run:
    info = RunInfo(
        tool="sim",
        policy=policy,
        cluster="4",
        profile="p",
        workload="w",
        load_factor=load_factor,
        seed=seed,
        duration_s=10.0,
        version="0",
    )
    summary = Summary(
        overall=metrics(attainment, **more),
        classes={"chat": metrics(attainment / 2), "code": metrics(1.0)},
        worst_class=WorstClass(name="chat", slo_attainment=attainment / 2),
    )
    return Run(path=Path(f"{policy}-{load_factor}-{seed}"), info=info, summary=summary)


@pytest.fixture
def grid() -> RunGrid:
    return arrange(
        [
            run("b", 1.0, 0, 0.98),
            run("b", 1.0, 1, 0.90),
            run("b", 1.0, 2, 0.94),
            run("b", 4.0, 0, 0.50, median_ttft_ms=1234.5),
            run("a", 1.0, 0, 1.00),
        ]
    )


def test_a_cell_is_the_median_between_the_extremes(grid: RunGrid) -> None:
    assert grid.spread("4", "b", 1.0, attainment_of(None)) == (0.94, 0.90, 0.98, 3)
    assert grid.spread("4", "a", 4.0, attainment_of(None)) is None
    assert grid.load_factors == (1.0, 4.0)
    assert grid.policies == ("b", "a")


def test_a_line_has_only_the_loads_that_were_run(grid: RunGrid) -> None:
    load_factors, spreads = grid.line("4", "a", attainment_of("chat"))
    assert load_factors == [1.0]
    assert [spread.median for spread in spreads] == [0.5]


def test_the_table_of_one_figure(grid: RunGrid) -> None:
    assert load_table(grid, "4", attainment_of(None), ".1f", 100.0).splitlines() == [
        "| policy | 1x | 4x |",
        "| --- | ---: | ---: |",
        "| b | 94.0 (90.0-98.0) | 50.0 |",
        "| a | 100.0 | - |",
    ]


def test_a_figure_that_was_not_measured_is_not_a_number(grid: RunGrid) -> None:
    table = load_table(grid, "4", lambda run: run.summary.overall.median_ttft_ms, ".0f")
    assert table.splitlines()[2:] == ["| b | - | 1234 |", "| a | - | - |"]


def test_the_table_of_classes(grid: RunGrid) -> None:
    assert class_table(grid, "4", 4.0).splitlines()[0] == "| policy | overall | chat | code |"
    assert class_table(grid, "4", 4.0).splitlines()[2:] == [
        "| b | 50.0 | 25.0 | 100.0 |",
        "| a | - | - | - |",
    ]


def test_the_close_up_is_where_promises_begin_to_break(grid: RunGrid) -> None:
    assert detail_load_factor(grid) == 4.0
    assert detail_load_factor(grid, threshold=0.95) == 1.0
    assert detail_load_factor(grid, threshold=0.1) == 4.0  # nowhere: the highest


def test_two_runs_of_the_same_seed_are_refused() -> None:
    with pytest.raises(ConfigError, match="same tool, cluster, policy, load factor and seed"):
        arrange([run("a", 1.0, 0, 1.0), run("a", 1.0, 0, 0.9)])


def test_nothing_to_report_on_is_refused() -> None:
    with pytest.raises(ConfigError, match="none to report on"):
        arrange([])


@pytest.mark.parametrize(("cluster", "title"), [("4", "4 unified"), ("2P+2D", "2P+2D")])
def test_titles_of_clusters(cluster: str, title: str) -> None:
    assert cluster_title(cluster) == title
