"""The targets, each judged by the runs of the sweep."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from baselines.shapes import POLICIES as BASELINES
from scheduler_runs.curve import Sustained, sustained_load
from scheduler_runs.outcome import Outcome
from scheduler_runs.sweep import POLICY, REFERENCE, SweepResult

SUSTAINED_LEVEL = 0.9
_PD_GOAL, _UNIFIED_GOAL = 2.0, 1.3
_BREAKDOWN_GOAL, _BEYOND_GOAL = 4.44, 7.0
_LOST_LEVEL = 0.1
"""Attainment of the reference below which end-to-end times are compared."""
_E2E_GOAL = 0.35
_BOUND_GOAL = 0.9

Bounds = Mapping[tuple[str, float], float]
"""The clairvoyant bound by cluster and load."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One target in one cluster."""

    cluster: str
    what: str
    goal: str
    figure: str
    is_reached: bool | None
    """None: nothing was run that could tell."""


def judge(result: SweepResult, bounds: Bounds | None) -> list[Target]:
    """Return every target in every cluster."""
    targets: list[Target] = []
    for cluster in dict.fromkeys(cluster for cluster, _, _ in result.outcomes):
        targets += _never_worse(result, cluster)
        targets.append(_sustained(result, cluster))
        targets += _breakdown(result, cluster)
        targets.append(_end_to_end(result, cluster))
        if bounds is not None:
            targets.append(_share_of_bound(result, cluster, bounds))
    return targets


# --- never worse than the best baseline ---


def _never_worse(result: SweepResult, cluster: str) -> Iterator[Target]:
    figures: Sequence[tuple[str, Callable[[Outcome], float]]] = (
        ("all requests", lambda outcome: outcome.attainment),
        ("the worst class", lambda outcome: outcome.worst_class[1]),
    )
    for name, figure in figures:
        differences = list(_differences(result, cluster, figure))
        if not differences:
            yield _unknown(cluster, f"{name}: never worse than the best baseline", "0 points")
            continue
        least, load_factor, baseline = min(differences)
        num_worse = sum(difference < 0 for difference, _, _ in differences)
        yield Target(
            cluster=cluster,
            what=f"{name}: never worse than the best baseline at any load",
            goal="0 points or more",
            figure=f"{100 * least:+.2f} points at {load_factor:g}x against {baseline}; worse at "
            f"{num_worse} of {len(differences)} loads",
            is_reached=least >= 0,
        )


def _differences(
    result: SweepResult, cluster: str, figure: Callable[[Outcome], float]
) -> Iterator[tuple[float, float, str]]:
    """Yield how much better than the best baseline, the load and that baseline."""
    for load_factor in result.load_factors:
        own = result.outcomes.get((cluster, POLICY, load_factor))
        others = {
            name: figure(result.outcomes[cluster, name, load_factor])
            for name in BASELINES
            if (cluster, name, load_factor) in result.outcomes
        }
        if own is not None and others:
            best = max(others, key=others.__getitem__)
            yield figure(own) - others[best], load_factor, best


# --- sustained load ---


def sustained_loads(result: SweepResult, cluster: str) -> dict[str, Sustained]:
    """Return up to which load each policy keeps `SUSTAINED_LEVEL`."""
    curves = {policy: result.curve(cluster, policy) for policy in (POLICY, *BASELINES)}
    return {
        policy: sustained_load(
            [(load_factor, outcome.attainment) for load_factor, outcome in curve], SUSTAINED_LEVEL
        )
        for policy, curve in curves.items()
        if curve
    }


def _sustained(result: SweepResult, cluster: str) -> Target:
    is_pd = not cluster.isdecimal()
    goal = _PD_GOAL if is_pd else _UNIFIED_GOAL
    what = f"load sustained at {SUSTAINED_LEVEL:.0%}, against the best baseline"
    loads = sustained_loads(result, cluster)
    own = loads.pop(POLICY)
    if not loads:
        return _unknown(cluster, what, f"{goal:g}x")
    best = max(loads, key=lambda policy: loads[policy].load_factor)
    ratio = own.load_factor / loads[best].load_factor
    is_open = loads[best].is_beyond or (own.is_beyond and ratio < goal)
    return Target(
        cluster=cluster,
        what=what,
        goal=f"{goal:g}x",
        figure=f"{ratio:.2f}x ({own} against {loads[best]} of {best})",
        is_reached=None if is_open else ratio >= goal,
    )


# --- where the reference breaks down ---


def _breakdown(result: SweepResult, cluster: str) -> Iterator[Target]:
    breakdown = result.breakdowns.get(cluster)
    names = (
        (f"attained where {REFERENCE} first falls under 20 %, against it", _BREAKDOWN_GOAL),
        ("attained at 1.2 times that load, against it", _BEYOND_GOAL),
    )
    if breakdown is None:
        yield from (_unknown(cluster, what, f"{goal:g}x") for what, goal in names)
        return
    for (what, goal), load_factor in zip(
        names, (breakdown.load_factor, breakdown.beyond), strict=True
    ):
        own = result.outcomes[cluster, POLICY, load_factor].attainment
        other = result.outcomes[cluster, REFERENCE, load_factor].attainment
        is_reached = own >= goal * other
        ratio = f"{own / other:.2f}x" if other else "nothing to divide by"
        yield Target(
            cluster=cluster,
            what=what,
            goal=f"{goal:g}x",
            figure=f"{ratio} at {load_factor:g}x ({100 * own:.1f} % against {100 * other:.1f} %)",
            is_reached=is_reached,
        )


def _end_to_end(result: SweepResult, cluster: str) -> Target:
    """Compare the mean over all requests; it exists only where all have been answered."""
    what = f"mean end-to-end time of all requests, against {REFERENCE} where that attains < 10 %"
    ratios = []
    num_incomplete = 0
    for (name, policy, load_factor), other in result.outcomes.items():
        own = result.outcomes.get((name, POLICY, load_factor))
        if (name, policy) != (cluster, REFERENCE) or own is None:
            continue
        if other.attainment < _LOST_LEVEL:
            ratios.append((own.mean_e2e_s / other.mean_e2e_s, load_factor))
            num_incomplete += own.num_incomplete
    goal = f"{_E2E_GOAL:g}x at most"
    if not ratios:
        return _unknown(cluster, what, goal)
    (worst, at), (best, best_at) = max(ratios), min(ratios)
    figure = f"{worst:.2f}x at {at:g}x; {best:.2f}x at {best_at:g}x"
    if num_incomplete:
        figure += f"; {num_incomplete} requests had no whole answer and are not in it"
    return Target(
        cluster=cluster,
        what=what,
        goal=goal,
        figure=figure,
        is_reached=worst <= _E2E_GOAL and not num_incomplete,
    )


# --- distance to the best possible ---


def _share_of_bound(result: SweepResult, cluster: str, bounds: Bounds) -> Target:
    what = "attained as a share of the clairvoyant bound, at every load"
    shares = [
        (outcome.attainment / bounds[cluster, load_factor], load_factor)
        for load_factor, outcome in result.curve(cluster, POLICY)
        if bounds.get((cluster, load_factor))
    ]
    goal = f"{_BOUND_GOAL:.0%}"
    if not shares:
        return _unknown(cluster, what, goal)
    least, load_factor = min(shares)
    return Target(
        cluster=cluster,
        what=what,
        goal=goal,
        figure=f"{least:.1%} at {load_factor:g}x, the least of {len(shares)} loads",
        is_reached=least >= _BOUND_GOAL,
    )


def _unknown(cluster: str, what: str, goal: str) -> Target:
    return Target(cluster=cluster, what=what, goal=goal, figure="not measured", is_reached=None)
