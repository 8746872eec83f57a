"""Whose promises were kept how often lately, so that nobody is given up for the average."""

from collections import OrderedDict

from hfx_sgl.policy.scheduler.entry import Entry
from hfx_sgl.policy.scheduler.facts import RequestFacts

_RATE = 0.02
"""About the last fifty requests of a class or tenant count."""
_OVERALL_RATE = 0.005
_STEEPNESS = 8
_LEAST_SHARE = 1e-3
_ALL_KEPT = 0.999
"""With such a share over all nobody has been given up."""
_MAX_GROUPS = 1000
"""Classes and tenants are named by clients: so many are remembered, the latest."""


class KeptShares:
    """Fading shares of promises that could be kept, of each class, of each tenant and over all.

    Args:
        fairness: which part of the overall share each class and each tenant should reach.
    """

    def __init__(self, fairness: float) -> None:
        self._fairness = fairness
        self._shares: OrderedDict[tuple[str, str], float] = OrderedDict()
        self._overall = 1.0
        self._is_perfect = True
        """Whether nobody has been given up so far."""

    def count(self, entry: Entry, *, is_kept: bool) -> None:
        """A request was sent on time, or can no longer be; what is said first about it counts."""
        if entry.is_counted:
            return
        entry.is_counted = True
        self._is_perfect = self._is_perfect and is_kept
        if self._is_perfect:
            return  # all shares are 1, and stay so
        facts = entry.facts
        self._overall += _OVERALL_RATE * (is_kept - self._overall)
        self._observe(("class", facts.class_name), is_kept)
        if facts.tenant:
            self._observe(("tenant", facts.tenant), is_kept)

    def _observe(self, group: tuple[str, str], is_kept: bool) -> None:
        share = self._shares.get(group, 1.0)
        self._shares[group] = share + _RATE * (is_kept - share)
        self._shares.move_to_end(group)
        if len(self._shares) > _MAX_GROUPS:
            self._shares.popitem(last=False)

    def weight(self, facts: RequestFacts) -> float:
        """Return how much longer than others its prompt may take and be kept all the same: 1 or
        more."""
        if self._overall > _ALL_KEPT:
            return 1.0
        weight = self._weight(("class", facts.class_name))
        return max(weight, self._weight(("tenant", facts.tenant))) if facts.tenant else weight

    def _weight(self, group: tuple[str, str]) -> float:
        share = self._shares.get(group, 1.0)
        floor = self._fairness * self._overall
        return 1.0 if share >= floor else (floor / max(share, _LEAST_SHARE)) ** _STEEPNESS
