"""What several runs of one cell come to: all their arrivals together, whatever became of them."""

from collections.abc import Iterable
from dataclasses import dataclass

from hfx_sgl.results.reader import Run


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """All arrivals of some runs."""

    num_requests: int
    num_attained: int
    num_completed: int
    total_e2e_s: float
    """Of the completed ones."""
    classes: dict[str, tuple[int, int]]
    """Arrivals and attained ones."""
    attained_by_seed: dict[int, float]
    """Share of each seed's run."""

    @property
    def attainment(self) -> float:
        """Share (0..1) of all arrivals."""
        return self.num_attained / self.num_requests

    @property
    def worst_class(self) -> tuple[str, float]:
        """The class that attains least, and its share; of several, the first by name."""
        shares = {name: attained / num for name, (num, attained) in self.classes.items()}
        name = min(sorted(shares), key=shares.__getitem__)
        return name, shares[name]

    @property
    def mean_e2e_s(self) -> float:
        """Mean of the completed ones."""
        return self.total_e2e_s / self.num_completed

    @property
    def num_incomplete(self) -> int:
        """Requests without a complete answer."""
        return self.num_requests - self.num_completed


def pooled(runs: Iterable[Run]) -> Outcome:
    """Return the outcome of runs of one cell with different seeds."""
    num_requests = num_attained = num_completed = 0
    total_e2e_s = 0.0
    classes: dict[str, tuple[int, int]] = {}
    by_seed: dict[int, float] = {}
    for run in runs:
        overall = run.summary.overall
        num_requests += overall.num_requests
        num_attained += _count(overall.slo_attainment, overall.num_requests)
        num_completed += overall.completed
        total_e2e_s += overall.completed * (overall.mean_e2e_latency_ms or 0.0) / 1e3
        by_seed[run.info.seed] = overall.slo_attainment or 0.0
        for name, metrics in run.summary.classes.items():
            num, attained = classes.get(name, (0, 0))
            more = _count(metrics.slo_attainment, metrics.num_requests)
            classes[name] = num + metrics.num_requests, attained + more
    return Outcome(
        num_requests=num_requests,
        num_attained=num_attained,
        num_completed=num_completed,
        total_e2e_s=total_e2e_s,
        classes=classes,
        attained_by_seed=by_seed,
    )


def _count(share: float | None, num: int) -> int:
    return round((share or 0.0) * num)
