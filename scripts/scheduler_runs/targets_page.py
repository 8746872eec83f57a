"""The page of the targets, and the figures behind it."""

from collections.abc import Mapping, Sequence

from baselines.shapes import POLICIES as BASELINES
from scheduler_runs.cases import versions_of
from scheduler_runs.sweep import POLICY, SweepResult
from scheduler_runs.targets import Bounds, Target, sustained_loads

from hfx_sgl.report.grid import cluster_title
from hfx_sgl.report.tables import markdown_table

_REACHED: Mapping[bool | None, str] = {True: "yes", False: "**no**", None: "?"}


def targets_page(
    result: SweepResult, targets: Sequence[Target], bounds: Bounds | None, assumptions: str
) -> str:
    """Return the page."""
    infos = [run.info for run in result.runs]
    seeds = sorted({info.seed for info in infos})
    duration_s = max(info.duration_s for info in infos)
    lines = [
        "# Targets of the SLO-aware scheduler",
        "",
        f"By simulation, {len(seeds)} seeds of {duration_s:g} s of arrivals at each load. Shares "
        "are of all arrivals of all seeds together. Baselines: "
        f"{', '.join(BASELINES)}. Version {versions_of(result.runs)}.",
        "",
        _table(targets),
        "",
    ]
    for cluster in dict.fromkeys(target.cluster for target in targets):
        lines += _cluster_part(result, cluster, bounds)
    if assumptions:
        lines += [f"The clairvoyant bound: {assumptions}", ""]
    return "\n".join(lines)


def _table(targets: Sequence[Target]) -> str:
    return markdown_table(
        ["cluster", "what", "target", "figure", "reached"],
        [
            [
                cluster_title(target.cluster),
                target.what,
                target.goal,
                target.figure,
                _REACHED[target.is_reached],
            ]
            for target in targets
        ],
    )


def _cluster_part(result: SweepResult, cluster: str, bounds: Bounds | None) -> list[str]:
    header = ["policy", *(f"{load_factor:g}x" for load_factor in result.load_factors)]
    overall, worst = [], []
    for policy in (POLICY, *BASELINES):
        outcomes = dict(result.curve(cluster, policy))
        cells = [outcomes.get(load_factor) for load_factor in result.load_factors]
        overall.append([policy, *("-" if o is None else _percent(o.attainment) for o in cells)])
        worst.append([policy, *("-" if o is None else _percent(o.worst_class[1]) for o in cells)])
    if bounds is not None:
        found = [bounds.get((cluster, load_factor)) for load_factor in result.load_factors]
        overall.append(["clairvoyant bound", *("-" if b is None else _percent(b) for b in found)])
    sustained = sustained_loads(result, cluster)
    return [
        f"## {cluster_title(cluster)}",
        "",
        "Attained, %:",
        "",
        markdown_table(header, overall),
        "The class that attains least, %:",
        "",
        markdown_table(header, worst),
        "Load sustained at 90 %: "
        + ", ".join(f"{policy} {load}" for policy, load in sustained.items())
        + ".",
        "",
    ]


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"
