"""By which way several receivers get the same weights: a plan, and what it was weighed against."""

from collections import Counter
from dataclasses import dataclass, replace
from enum import StrEnum

from hfx_sgl.policy.transfer.config import PlanConfig
from hfx_sgl.policy.transfer.forecast import Forecast
from hfx_sgl.policy.transfer.growth import chain, star
from hfx_sgl.policy.transfer.network import Task
from hfx_sgl.policy.transfer.search import Found, best_tree, weigh
from hfx_sgl.policy.transfer.storage import readings


class Shape(StrEnum):
    """What the way looks like."""

    STAR = "star"
    """Everybody pulls from a source."""
    CHAIN = "chain"
    """Nobody serves two."""
    TREE = "tree"


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """From whom one receiver pulls, and what it can expect."""

    receiver_id: str
    parent_id: str
    """A source, or another receiver, which passes each chunk on as soon as it has verified it."""
    depth: int
    """Hops from the source; 1 for who pulls from a source."""
    bytes_per_s: float
    """What the slowest link on the way moves."""
    finish_s: float
    disk_finish_s: float | None
    """When it would be done by reading from its store, together with all others that are better
    off reading from it; None when it has none."""
    is_disk_faster: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Alternatives:
    """When the last receiver would be done in simpler ways, from the best source for each."""

    star_s: float | None
    """All pull from one source; None when no source has that many leases."""
    chain_s: float
    """One behind the other, in the order of their ids."""
    serial_s: float
    """One after the other, each with all links to itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DistributionPlan:
    """One way for all receivers. Times count from the moment at which all begin."""

    assignments: tuple[Assignment, ...]
    """One for each receiver, parents before those that pull from them."""
    shape: Shape
    last_finish_s: float
    mean_finish_s: float
    alternatives: Alternatives

    @property
    def num_disk_faster(self) -> int:
        """How many receivers had better read from their disks."""
        return sum(assignment.is_disk_faster for assignment in self.assignments)


def plan_distribution(task: Task, config: PlanConfig) -> DistributionPlan:
    """Choose who pulls from whom so that the last receiver is done as early as possible.

    Of plans that are about equal in that, the one with the lowest mean is taken, then the one with
    the fewest hops. The same task gives the same plan, in whatever order it lists things. The time
    model is described at `Forecast`, how far the search goes at `best_tree`.
    """
    forecast = Forecast(task, config)
    found = best_tree(forecast, config)
    return DistributionPlan(
        assignments=_assignments(task, forecast, found),
        shape=_shape(found),
        last_finish_s=found.last_s,
        mean_finish_s=found.mean_s,
        alternatives=_alternatives(task, config, forecast),
    )


def _assignments(task: Task, forecast: Forecast, found: Found) -> tuple[Assignment, ...]:
    """Return one for each receiver, those nearest to a source first."""
    names = [source.source_id for source in forecast.sources]
    names += [receiver.receiver_id for receiver in forecast.receivers]
    finish_s = {
        name: forecast.finish_s(place)
        for name, place in zip(names[forecast.num_sources :], found.places, strict=True)
    }
    disk = readings(task.size_bytes, forecast.receivers, task.stores, finish_s)
    assignments = [
        Assignment(
            receiver_id=name,
            parent_id=names[parent],
            depth=place.depth,
            bytes_per_s=place.bytes_per_s,
            finish_s=finish_s[name],
            disk_finish_s=disk[name].finish_s if name in disk else None,
            is_disk_faster=name in disk and disk[name].is_faster,
        )
        for name, parent, place in zip(finish_s, found.parents, found.places, strict=True)
    ]
    return tuple(sorted(assignments, key=lambda each: (each.depth, each.receiver_id)))


def _shape(found: Found) -> Shape:
    if all(place.depth == 1 for place in found.places):
        return Shape.STAR
    return Shape.CHAIN if max(Counter(found.parents).values()) == 1 else Shape.TREE


def _alternatives(task: Task, config: PlanConfig, forecast: Forecast) -> Alternatives:
    usable = [node for node in range(forecast.num_sources) if forecast.leases[node]]
    stars = [weigh(forecast, star(forecast, node)) for node in usable]
    chains = [weigh(forecast, chain(forecast, node)) for node in usable]
    return Alternatives(
        star_s=min((found.last_s for found in stars if found is not None), default=None),
        chain_s=min(found.last_s for found in chains if found is not None),
        serial_s=min(_serial_s(task, config, node) for node in usable),
    )


def _serial_s(task: Task, config: PlanConfig, source: int) -> float:
    """Return when the last is done if each begins when the one before it is done."""
    total_s = 0.0
    for receiver in task.receivers:
        alone = weigh(Forecast(replace(task, receivers=[receiver]), config), (source,))
        assert alone is not None, "the source has a lease"
        total_s += alone.last_s
    return total_s
