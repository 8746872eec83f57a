"""Markdown tables of a grid of runs."""

from collections.abc import Iterable, Sequence

from hfx_sgl.report.grid import Number, RunGrid, Spread
from hfx_sgl.results.reader import Run


def load_table(grid: RunGrid, cluster: str, number: Number, form: str, scale: float = 1.0) -> str:
    """Return one figure by policy (rows) and load factor (columns).

    Args:
        grid: the runs.
        cluster: whose runs.
        number: the figure.
        form: how a number is printed, as in `format(x, form)`.
        scale: what numbers are multiplied by first.

    A cell is the median over the seeds, with the lowest and the highest in brackets where there
    are several.
    """
    header = ["policy", *(f"{load_factor:g}x" for load_factor in grid.load_factors)]
    rows = [
        [
            policy,
            *(
                _cell(grid.spread(cluster, policy, load_factor, number), form, scale)
                for load_factor in grid.load_factors
            ),
        ]
        for policy in _policies(grid, cluster)
    ]
    return markdown_table(header, rows)


def class_table(grid: RunGrid, cluster: str, load_factor: float) -> str:
    """Return the attainment in percent of each class by policy at one load factor."""
    header = ["policy", "overall", *grid.class_names]
    rows = []
    for policy in _policies(grid, cluster):
        spreads = [grid.spread(cluster, policy, load_factor, attainment_of(None))]
        spreads += [
            grid.spread(cluster, policy, load_factor, attainment_of(name))
            for name in grid.class_names
        ]
        rows.append([policy, *(_cell(spread, ".1f", 100.0) for spread in spreads)])
    return markdown_table(header, rows)


def attainment_of(class_name: str | None) -> Number:
    """Return what reads the attainment of a class from a run; None reads that of all."""

    def number(run: Run) -> float | None:
        if class_name is None:
            return run.summary.overall.slo_attainment
        summary = run.summary.classes.get(class_name)
        return None if summary is None else summary.slo_attainment

    return number


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table; the first column is text, the others are numbers."""
    lines = [_row(header), _row(["---", *("---:" for _ in header[1:])])]
    lines += [_row(row) for row in rows]
    return "\n".join(lines) + "\n"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _cell(spread: Spread | None, form: str, scale: float) -> str:
    if spread is None:
        return "-"
    text = format(spread.median * scale, form)
    if spread.num_runs == 1:
        return text
    return f"{text} ({format(spread.low * scale, form)}-{format(spread.high * scale, form)})"


def _policies(grid: RunGrid, cluster: str) -> list[str]:
    """Return the policies that the cluster was run with."""
    return [
        policy
        for policy in grid.policies
        if any(key[:2] == (cluster, policy) for key in grid.cells)
    ]
