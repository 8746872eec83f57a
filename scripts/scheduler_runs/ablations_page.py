"""The page of the ablations."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from scheduler_runs.ablations import ABLATIONS, FULL, AblationResult
from scheduler_runs.cases import versions_of
from scheduler_runs.outcome import Outcome

from hfx_sgl.report.figures import line_style, save_panels
from hfx_sgl.report.grid import cluster_title
from hfx_sgl.report.tables import markdown_table

_PLOT = "ablations.png"


def write_page(result: AblationResult, folder: Path) -> Path:
    """Write the page and its plot; returns the page's path."""
    folder.mkdir(parents=True, exist_ok=True)
    _plot(result, folder / _PLOT)
    page = folder / "ablations.md"
    page.write_text(_page(result))
    return page


def _page(result: AblationResult) -> str:
    num_seeds = len({run.info.seed for run in result.runs})
    duration_s = max(run.info.duration_s for run in result.runs)
    lines = [
        "# The scheduler without each of its parts",
        "",
        f"By simulation, {num_seeds} seeds of {duration_s:g} s of arrivals. A cell is the share of "
        f"all arrivals that attained, in %; in brackets how many points that is from the row "
        f"`{FULL}`. Version {versions_of(result.runs)}.",
        "",
        markdown_table(
            ["row", "settings", "what it means"],
            [[row.name, " ".join(row.settings) or "-", row.text] for row in ABLATIONS],
        ),
    ]
    for cluster in result.clusters:
        lines += [f"## {cluster_title(cluster)}", "", "All requests:", ""]
        lines.append(_table(result, cluster, lambda outcome: outcome.attainment))
        lines += ["The class that attains least:", ""]
        lines.append(_table(result, cluster, lambda outcome: outcome.worst_class[1]))
    return "\n".join([*lines, f"![Points lost without each part]({_PLOT})", ""])


def _table(result: AblationResult, cluster: str, figure: Callable[[Outcome], float]) -> str:
    rows = []
    for ablation in ABLATIONS:
        row = [ablation.name]
        for load_factor in result.load_factors:
            value = figure(result.outcomes[cluster, ablation.name, load_factor])
            full = figure(result.outcomes[cluster, FULL, load_factor])
            cell = f"{100 * value:.1f}"
            row.append(cell if ablation.name == FULL else f"{cell} ({100 * (value - full):+.1f})")
        rows.append(row)
    header = ["row", *(f"{load_factor:g}x" for load_factor in result.load_factors)]
    return markdown_table(header, rows)


def _plot(result: AblationResult, path: Path) -> None:
    names = [ablation.name for ablation in ABLATIONS if ablation.name != FULL]

    def draw(axes: Any, index: int) -> None:
        cluster = result.clusters[index]
        for order, load_factor in enumerate(result.load_factors):
            full = result.outcomes[cluster, FULL, load_factor].attainment
            points = [
                100 * (result.outcomes[cluster, name, load_factor].attainment - full)
                for name in names
            ]
            style = line_style(order)
            axes.plot(points, range(len(names)), linestyle="", label=f"{load_factor:g}x", **style)
        axes.axvline(0.0, color="#888888", linewidth=0.8)
        axes.set_yticks(range(len(names)), names, fontsize=8)
        axes.invert_yaxis()
        axes.set_xlabel("points from the whole scheduler")
        axes.legend(fontsize=8)

    save_panels(path, [cluster_title(cluster) for cluster in result.clusters], draw)
