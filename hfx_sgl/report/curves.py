"""Plots over the load factor: one line per policy, a band from the lowest to the highest seed."""

from pathlib import Path
from typing import Any

from hfx_sgl.report.figures import line_style, save_panels
from hfx_sgl.report.grid import Number, RunGrid, cluster_title
from hfx_sgl.report.tables import attainment_of


def plot_attainment(grid: RunGrid, path: Path) -> None:
    """Draw the attainment of all requests against the load factor, a panel per cluster."""

    def draw(axes: Any, index: int) -> None:
        _draw_lines(axes, grid, grid.clusters[index], attainment_of(None))

    save_panels(path, [f"{cluster_title(cluster)}: all classes" for cluster in grid.clusters], draw)


def plot_class_attainment(grid: RunGrid, cluster: str, path: Path) -> None:
    """Draw the attainment of each class of one cluster against the load factor."""

    def draw(axes: Any, index: int) -> None:
        _draw_lines(axes, grid, cluster, attainment_of(grid.class_names[index]))

    save_panels(
        path,
        [f"{cluster_title(cluster)}: {name}" for name in grid.class_names],
        draw,
        num_columns=3,
    )


def _draw_lines(axes: Any, grid: RunGrid, cluster: str, number: Number) -> None:
    for index, policy in enumerate(grid.policies):
        load_factors, spreads = grid.line(cluster, policy, number)
        if not spreads:
            continue
        style = line_style(index)
        medians = [spread.median * 100 for spread in spreads]
        axes.plot(load_factors, medians, label=policy, linewidth=1.6, markersize=4, **style)
        if any(spread.num_runs > 1 for spread in spreads):
            low = [spread.low * 100 for spread in spreads]
            high = [spread.high * 100 for spread in spreads]
            axes.fill_between(load_factors, low, high, color=style["color"], alpha=0.15)
    axes.set_ylim(0, 102)
    axes.set_xlabel("load factor")
    axes.set_ylabel("attained, % of arrivals")
    axes.legend(fontsize=8)
