"""The page of the conditions."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scheduler_runs.cases import versions_of
from scheduler_runs.robustness import Cell, RobustnessResult

from hfx_sgl.report.figures import line_style, save_panels
from hfx_sgl.report.grid import cluster_title
from hfx_sgl.report.tables import markdown_table

_PLOT = "robustness.png"


def write_page(result: RobustnessResult, folder: Path) -> Path:
    """Write the page and its plot; returns the page's path."""
    folder.mkdir(parents=True, exist_ok=True)
    _plot(result, folder / _PLOT)
    page = folder / "robustness.md"
    page.write_text(_page(result))
    return page


def lost_cells(result: RobustnessResult) -> list[Cell]:
    """Return where some baseline attains more."""
    return [cell for cell in result.cells if cell.lead < 0]


def _page(result: RobustnessResult) -> str:
    num_seeds = len({run.info.seed for run in result.runs})
    duration_s = max(run.info.duration_s for run in result.runs)
    lost = lost_cells(result)
    num_worse = sum(cell.worst_class_lead < 0 for cell in result.cells)
    lines = [
        "# What the ranking survives",
        "",
        f"By simulation, {num_seeds} seeds of {duration_s:g} s of arrivals. A cell is the share of "
        "all arrivals that attained with hfx, in %, beside the best of the five baselines. Loads "
        "are those of the row `usual`; where `load` says so, less was asked of a cluster that does "
        "less. The scheduler never knows output lengths. Models: what the latency models start "
        f"from. Version {versions_of(result.runs)}.",
        "",
        f"In {len(result.cells) - len(lost)} of {len(result.cells)} cells no baseline attains "
        f"more; in {len(result.cells) - num_worse} none has a better worst class.",
        "",
    ]
    for cell in lost:
        lines.append(
            f"- {cell.cluster}, {cell.condition.name}, {cell.load_factor:g}x: "
            f"{100 * cell.lead:+.1f} points against {cell.best_baseline}"
        )
    for cluster in _clusters(result):
        lines += ["", f"## {cluster_title(cluster)}", ""]
        lines.append(_table(result, cluster))
    return "\n".join([*lines, f"![Lead over the best baseline]({_PLOT})", ""])


def _table(result: RobustnessResult, cluster: str) -> str:
    loads = [f"{load_factor:g}x" for load_factor in result.load_factors]
    header = ["condition", "what", "load", *loads, *(f"worst class {load}" for load in loads)]
    rows = []
    for cells in _rows(result, cluster):
        condition = cells[0].condition
        ratio = condition.world.load_ratio
        rows.append(
            [
                condition.name,
                condition.text,
                "" if ratio == 1.0 else f"x {ratio:g}",
                *map(_overall, cells),
                *map(_worst, cells),
            ]
        )
    return markdown_table(header, rows)


def _overall(cell: Cell) -> str:
    best = cell.best_baseline
    text = f"{100 * cell.own.attainment:.1f} / {100 * cell.baselines[best].attainment:.1f} {best}"
    return text if cell.lead >= 0 else f"**{text}**"


def _worst(cell: Cell) -> str:
    own = cell.own.worst_class[1]
    text = f"{100 * own:.1f} / {100 * (own - cell.worst_class_lead):.1f}"
    return text if cell.worst_class_lead >= 0 else f"**{text}**"


def _clusters(result: RobustnessResult) -> tuple[str, ...]:
    return tuple(dict.fromkeys(cell.cluster for cell in result.cells))


def _rows(result: RobustnessResult, cluster: str) -> list[Sequence[Cell]]:
    """Return the cells of a cluster, those of one condition together, in order of load."""
    by_condition: dict[str, list[Cell]] = {}
    for cell in result.cells:
        if cell.cluster == cluster:
            by_condition.setdefault(cell.condition.name, []).append(cell)
    return [sorted(cells, key=lambda cell: cell.load_factor) for cells in by_condition.values()]


def _plot(result: RobustnessResult, path: Path) -> None:
    clusters = _clusters(result)

    def draw(axes: Any, index: int) -> None:
        rows = _rows(result, clusters[index])
        for order, load_factor in enumerate(result.load_factors):
            points = [100 * cells[order].lead for cells in rows]
            style = line_style(order)
            axes.plot(points, range(len(rows)), linestyle="", label=f"{load_factor:g}x", **style)
        axes.axvline(0.0, color="#888888", linewidth=0.8)
        axes.set_yticks(range(len(rows)), [cells[0].condition.name for cells in rows], fontsize=7)
        axes.invert_yaxis()
        axes.set_xlabel("points over the best baseline")
        axes.legend(fontsize=8)

    save_panels(path, [cluster_title(cluster) for cluster in clusters], draw)
