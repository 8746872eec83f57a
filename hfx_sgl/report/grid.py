"""Runs in order: which clusters, policies and load factors there are, and the seeds of each."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

from hfx_sgl.errors import ConfigError
from hfx_sgl.results.reader import Run

Number = Callable[[Run], float | None]
"""Reads one figure of a run; None where the run has none."""


class Spread(NamedTuple):
    """A figure over the seeds of one cell."""

    median: float
    low: float
    high: float
    num_runs: int


@dataclass(frozen=True, slots=True)
class RunGrid:
    """Runs by (cluster, policy, load factor); a cell holds one run per seed."""

    cells: dict[tuple[str, str, float], tuple[Run, ...]]
    clusters: tuple[str, ...]
    policies: tuple[str, ...]
    load_factors: tuple[float, ...]
    class_names: tuple[str, ...]

    def spread(
        self, cluster: str, policy: str, load_factor: float, number: Number
    ) -> Spread | None:
        """Return a figure of one cell; None when no run there has it."""
        runs = self.cells.get((cluster, policy, load_factor), ())
        values = [value for run in runs if (value := number(run)) is not None]
        if not values:
            return None
        return Spread(median(values), min(values), max(values), len(values))

    def line(self, cluster: str, policy: str, number: Number) -> tuple[list[float], list[Spread]]:
        """Return a figure over the load factors at which there is one."""
        found = [
            (load_factor, spread)
            for load_factor in self.load_factors
            if (spread := self.spread(cluster, policy, load_factor, number)) is not None
        ]
        return [load_factor for load_factor, _ in found], [spread for _, spread in found]


def arrange(runs: Iterable[Run]) -> RunGrid:
    """Return the runs as a grid.

    Raises:
        ConfigError: there are none, or two runs are of the same cell and seed.
    """
    cells: dict[tuple[str, str, float], dict[tuple[str, int], Run]] = {}
    for run in runs:
        info = run.info
        seeds = cells.setdefault((info.cluster, info.policy, info.load_factor), {})
        key = (info.tool, info.seed)
        if key in seeds:
            raise ConfigError(
                f"{run.path}: the same tool, cluster, policy, load factor and seed as "
                f"{seeds[key].path}"
            )
        seeds[key] = run
    if not cells:
        raise ConfigError("runs: none to report on")
    return RunGrid(
        cells={key: tuple(cells[key].values()) for key in sorted(cells)},
        clusters=_in_order(key[0] for key in cells),
        policies=_in_order(key[1] for key in cells),
        load_factors=tuple(sorted({key[2] for key in cells})),
        class_names=tuple(
            sorted(
                {
                    name
                    for seeds in cells.values()
                    for run in seeds.values()
                    for name in run.summary.classes
                }
            )
        ),
    )


def detail_load_factor(grid: RunGrid, threshold: float = 0.9) -> float:
    """Return where to look closely: the lowest load at which some policy attains less.

    The highest load where none falls under `threshold`.
    """
    for load_factor in grid.load_factors:
        for key, runs in grid.cells.items():
            if key[2] == load_factor and median(map(_attainment, runs)) < threshold:
                return load_factor
    return grid.load_factors[-1]


def _attainment(run: Run) -> float:
    return run.summary.overall.slo_attainment or 0.0


def cluster_title(cluster: str) -> str:
    """Return a cluster's shape as a heading: `4` unified workers are not self-explaining."""
    return f"{cluster} unified" if cluster.isdecimal() else cluster


def _in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Return each name once, in order of first appearance."""
    return tuple(dict.fromkeys(names))


def sequence_of_runs(grid: RunGrid, cluster: str, load_factor: float) -> Sequence[tuple[str, Run]]:
    """Return the first run of each policy at one load factor of one cluster."""
    return [
        (policy, grid.cells[cluster, policy, load_factor][0])
        for policy in grid.policies
        if (cluster, policy, load_factor) in grid.cells
    ]
