"""The best tree of a task: each one tried where they are few, else the best grown, varied."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import product

from hfx_sgl.policy.transfer.config import PlanConfig
from hfx_sgl.policy.transfer.forecast import Forecast, Parents, Place
from hfx_sgl.policy.transfer.growth import candidates

_DIGITS = 9
"""Of a second: what differs by less than a nanosecond differs by rounding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A tree and what it promises."""

    parents: Parents
    places: list[Place]
    last_s: float
    mean_s: float

    @property
    def hops(self) -> int:
        """How many there are above all receivers together."""
        return sum(place.depth for place in self.places)


Merit = tuple[float, float, int, Parents]
"""The lower the better. The tree itself is part of it, so that no two are equal."""


def best_tree(forecast: Forecast, config: PlanConfig) -> Found:
    """Return the tree whose last receiver is done first; of those about equal, the lowest mean.

    About equal is what `tie_ratio` says. It is the best tree there is where at most
    `max_exact_trees` choices exist. Elsewhere it is no worse than a star or a chain of any source,
    and moving one receiver or swapping two makes it no better, unless `max_trials` has put an end
    to that.
    """
    num_receivers = len(forecast.receivers)
    is_exact = len(forecast.hosts) ** num_receivers <= config.max_exact_trees
    trees: Iterable[Parents] = (
        product(range(len(forecast.hosts)), repeat=num_receivers)
        if is_exact
        else candidates(forecast)
    )
    found = [each for parents in trees if (each := weigh(forecast, parents)) is not None]
    num_trials = 0 if is_exact else config.max_trials
    best = _improved(forecast, min(found, key=_by_last), _by_last, num_trials)
    limit_s = best.last_s * (1 + config.tie_ratio)

    def by_mean(each: Found) -> Merit:
        return (max(each.last_s, limit_s), each.mean_s, each.hops, each.parents)

    return _improved(forecast, min([best, *found], key=by_mean), by_mean, num_trials)


def weigh(forecast: Forecast, parents: Parents) -> Found | None:
    """Return what a tree promises; None when it is none, or leases are missing."""
    places = forecast.places(parents)
    if places is None:
        return None
    times_s = [forecast.finish_s(place) for place in places]
    return Found(
        parents=parents,
        places=places,
        last_s=round(max(times_s), _DIGITS),
        mean_s=round(sum(times_s) / len(times_s), _DIGITS),
    )


def _by_last(found: Found) -> Merit:
    return (found.last_s, found.mean_s, found.hops, found.parents)


def _improved(
    forecast: Forecast, best: Found, merit: Callable[[Found], Merit], max_trials: int
) -> Found:
    """Take every variation that is better until none is, or `max_trials` were tried."""
    num_left = max_trials
    has_improved = True
    while has_improved:
        has_improved = False
        for place in range(len(best.parents)):
            for parents in _variations(forecast, best.parents, place):
                if not num_left:
                    return best
                num_left -= 1
                found = weigh(forecast, parents)
                if found is not None and merit(found) < merit(best):
                    best, has_improved = found, True
                    break
    return best


def _variations(forecast: Forecast, parents: Parents, place: int) -> Iterator[Parents]:
    """Yield the trees in which one receiver pulls from another node, or trades places."""
    for parent in range(len(forecast.hosts)):
        if parent not in (parents[place], place + forecast.num_sources):
            yield (*parents[:place], parent, *parents[place + 1 :])
    for other in range(place + 1, len(parents)):
        yield _swapped(parents, forecast.num_sources, place, other)


def _swapped(parents: Parents, num_sources: int, one: int, other: int) -> Parents:
    """Exchange two receivers: each gets the other's parent and children."""
    names = {num_sources + one: num_sources + other, num_sources + other: num_sources + one}
    swapped = [names.get(parent, parent) for parent in parents]
    swapped[one], swapped[other] = swapped[other], swapped[one]
    return tuple(swapped)
