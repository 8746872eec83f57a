"""The page: what was run, the tables, the plots."""

from pathlib import Path

from hfx_sgl.report.curves import plot_attainment, plot_class_attainment
from hfx_sgl.report.details import plot_latencies, plot_workers
from hfx_sgl.report.grid import Number, RunGrid, cluster_title, detail_load_factor
from hfx_sgl.report.tables import attainment_of, class_table, load_table
from hfx_sgl.results.reader import Run


def _worst_attainment(run: Run) -> float | None:
    worst = run.summary.worst_class
    return None if worst is None else worst.slo_attainment


_FIGURES: tuple[tuple[str, Number, str, float], ...] = (
    ("Attained, % of all arrivals", attainment_of(None), ".1f", 100.0),
    ("The class that attains least, %", _worst_attainment, ".1f", 100),
    ("Attained requests per second", lambda run: run.summary.overall.request_goodput, ".2f", 1.0),
    ("TTFT, median, ms", lambda run: run.summary.overall.median_ttft_ms, ".0f", 1.0),
    ("TTFT, p99, ms", lambda run: run.summary.overall.p99_ttft_ms, ".0f", 1.0),
    ("TPOT, median, ms", lambda run: run.summary.overall.median_tpot_ms, ".1f", 1.0),
    ("TPOT, p99, ms", lambda run: run.summary.overall.p99_tpot_ms, ".1f", 1.0),
    ("End to end, mean, ms", lambda run: run.summary.overall.mean_e2e_latency_ms, ".0f", 1.0),
)


def write_report(
    grid: RunGrid, folder: Path, *, title: str, detail_load: float | None = None
) -> Path:
    """Write `report.md` and its plots into a folder and return the page's path.

    Args:
        grid: the runs.
        folder: is made when missing; files of the same names are replaced.
        title: the page's heading.
        detail_load: the load factor of the close-ups; None chooses one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    load_factor = detail_load_factor(grid) if detail_load is None else detail_load
    parts = [f"# {title}\n", _description(grid)]
    plot_attainment(grid, folder / "attainment.png")
    parts.append("![Attainment against load](attainment.png)\n")
    for cluster in grid.clusters:
        parts += _cluster_part(grid, folder, cluster, load_factor)
    page = folder / "report.md"
    page.write_text("\n".join(parts))
    return page


def _cluster_part(grid: RunGrid, folder: Path, cluster: str, load_factor: float) -> list[str]:
    name = file_name(cluster)
    parts = [f"## {cluster_title(cluster)}\n"]
    for heading, number, form, scale in _FIGURES:
        parts += [f"{heading}:\n", load_table(grid, cluster, number, form, scale)]
    plot_class_attainment(grid, cluster, folder / f"classes-{name}.png")
    parts += [
        f"Attained by class at {load_factor:g}x, %:\n",
        class_table(grid, cluster, load_factor),
        f"![Attainment by class](classes-{name}.png)\n",
    ]
    plot_latencies(grid, cluster, load_factor, folder / f"latencies-{name}.png")
    parts.append(f"![Distributions of TTFT and TPOT](latencies-{name}.png)\n")
    if plot_workers(grid, cluster, load_factor, folder / f"workers-{name}.png"):
        parts.append(f"![Workers over time](workers-{name}.png)\n")
    return parts


def _description(grid: RunGrid) -> str:
    """Return what all runs have in common, and what is wrong with some."""
    runs = [run for cell in grid.cells.values() for run in cell]
    infos = [run.info for run in runs]
    lines = [
        f"- tool: {_listed({info.tool for info in infos})}",
        f"- workload: {_listed({info.workload for info in infos})}",
        f"- engine profile: {_listed({info.profile for info in infos})}",
        f"- arrivals over: {_listed({f'{info.duration_s:g} s' for info in infos})}",
        f"- seeds: {_listed({str(info.seed) for info in infos})}",
        f"- version: {_listed({info.version for info in infos})}",
        f"- runs: {len(runs)}; cells are medians over the seeds, lowest and highest in brackets",
    ]
    lines += _problem_lines(runs)
    return "\n".join(lines) + "\n"


def _problem_lines(runs: list[Run]) -> list[str]:
    num_runs_by_problem: dict[str, int] = {}
    for run in runs:
        for problem in run.info.problems:
            num_runs_by_problem[problem] = num_runs_by_problem.get(problem, 0) + 1
    lines = [f"- {count} runs: {text}" for text, count in sorted(num_runs_by_problem.items())]
    num_invalid = sum(not run.info.is_valid for run in runs)
    if num_invalid:
        lines.append(f"- **{num_invalid} runs are not valid**")
    return lines


def _listed(values: set[str]) -> str:
    return ", ".join(sorted(values))


def file_name(cluster: str) -> str:
    """Return a cluster's shape as part of a file name."""
    return "".join(char if char.isalnum() else "-" for char in cluster.lower())
