"""All pairs of one router: which of them may be chosen, and why not.

A pair that nothing was heard of costs nothing: its link is made with the first report about it.
"""

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import NamedTuple

from hfx_sgl.policy.pairs.link import BARRED_STATES, Link, LinkConfig, LinkState

INCOMPATIBLE = "incompatible"
"""Stands beside the states of links where pairs are counted."""

PairKey = tuple[str, str]
"""Ids of the prefill and of the decode worker."""


OnLinkChanged = Callable[[PairKey, LinkState, Link], None]
"""Takes the pair, the state before, and the link as it is."""


class PairStanding(NamedTuple):
    """One pair as people see it."""

    prefill_id: str
    decode_id: str
    state: LinkState
    problem: str
    """Why the two cannot exchange KV at all; empty when they can, or nobody knows."""
    reason: str
    """What went wrong on the way last; empty when nothing did."""
    since_s: float | None
    """Since when the link is in its state; None when nothing was heard of it."""
    due_at_s: float | None
    """When a pair that is down is tried again; None when it is not."""
    num_failures: int
    """Hand-offs that failed since the last that did not."""


class PairBook:
    """See the module; `barred`, `has_due` and `taken` are a PairView.

    The workers that it is asked about are those of `set_workers`; reports about others are ignored,
    as requests outlive their workers.
    """

    def __init__(self, config: LinkConfig) -> None:
        self._config = config
        self._prefill_ids: frozenset[str] = frozenset()
        self._decode_ids: frozenset[str] = frozenset()
        self._links: dict[PairKey, Link] = {}
        self._keys: dict[LinkState, set[PairKey]] = {state: set() for state in LinkState}
        """Of the links, by their state."""
        self._problems: dict[PairKey, str] = {}
        self._listeners: list[Callable[[], None]] = []
        self.barred: Mapping[str, frozenset[str]] = {}
        """See PairView."""
        self.has_due = False
        """See PairView."""
        self.has_trials = False
        """Whether the end of any request may be that of a trial."""
        self.is_settled = True
        """Whether all pairs are known to be OK: then no success needs to be reported."""
        self.num_changes: Counter[tuple[LinkState, LinkState]] = Counter()
        """Changes of links, by the states before and after."""
        self.on_link_changed: OnLinkChanged = lambda key, before, link: None
        """Told of every such change; whoever writes logs puts itself here."""

    def subscribe(self, listener: Callable[[], None]) -> None:
        """Have `listener` called after every change of `barred`."""
        self._listeners.append(listener)

    # --- workers ---

    def set_workers(self, prefill_ids: Collection[str], decode_ids: Collection[str]) -> None:
        """These are the workers from here on; what is known of pairs of others is dropped."""
        if self._prefill_ids == prefill_ids and self._decode_ids == decode_ids:
            return
        self._prefill_ids, self._decode_ids = frozenset(prefill_ids), frozenset(decode_ids)
        for key in [key for key in self._links if not self._has(key)]:
            self._keys[self._links.pop(key).state].remove(key)
        for key in [key for key in self._problems if not self._has(key)]:
            del self._problems[key]
        self._sum_up()
        self._bar()

    def judge(self, problems: Mapping[PairKey, str]) -> None:
        """Bar pairs that cannot exchange KV, by why not; an empty problem says that a pair can."""
        for key, problem in problems.items():
            if problem and self._has(key):
                self._problems[key] = problem
            else:
                self._problems.pop(key, None)
        self._bar()

    def renewed(self, worker_id: str, now_s: float) -> None:
        """A worker has come back: what was heard of its links is of another life."""
        for key, link in self._links.items():
            if worker_id in key:
                self._told(key, link, link.state, link.renewed(now_s))

    # --- requests ---

    def taken(self, prefill_id: str, decode_id: str, now_s: float) -> None:
        """See PairView."""
        key = (prefill_id, decode_id)
        link = self._links.get(key)
        if link is not None:
            self._told(key, link, link.state, link.taken(now_s))

    def succeeded(self, prefill_id: str, decode_id: str, now_s: float) -> None:
        """A request was handed over. Need not be told while `is_settled`."""
        key = (prefill_id, decode_id)
        link = self._link(key, now_s)
        if link is not None and link.state is not LinkState.OK:
            self._told(key, link, link.state, link.succeeded(now_s))

    def failed(self, prefill_id: str, decode_id: str, reason: str, now_s: float) -> None:
        """A worker said that a hand-off failed."""
        key = (prefill_id, decode_id)
        link = self._link(key, now_s)
        if link is not None:
            self._told(key, link, link.state, link.failed(reason, now_s))

    def doubted(self, prefill_id: str, decode_id: str, reason: str, now_s: float) -> None:
        """A request ran out of time before its first token."""
        key = (prefill_id, decode_id)
        link = self._link(key, now_s)
        if link is not None:
            self._told(key, link, link.state, link.doubted(reason, now_s))

    def abandoned(self, prefill_id: str, decode_id: str, now_s: float) -> None:
        """A request ended before its hand-off was decided. Need be told only if `has_trials`."""
        key = (prefill_id, decode_id)
        link = self._links.get(key)
        if link is not None:
            self._told(key, link, link.state, link.abandoned(now_s))

    # --- probes and time ---

    def probed(self, prefill_id: str, problem: str, now_s: float) -> None:
        """The address where a prefill worker meets its decode workers was looked at.

        That casts doubt on its links, or takes such doubt back; it proves nothing about them: the
        router is neither of the two.
        """
        for decode_id in self._decode_ids:
            key = (prefill_id, decode_id)
            if not problem:
                link = self._links.get(key)
                if link is not None:
                    self._told(key, link, link.state, link.reassured(now_s))
                continue
            link = self._link(key, now_s)
            # A trial is under way already, and will tell more.
            if link is not None and link.state is not LinkState.TRIAL:
                self._told(key, link, link.state, link.doubted(problem, now_s))

    def poll(self, now_s: float) -> None:
        """Let time pass for the links that are down; to be called about once a second."""
        for key in list(self._keys[LinkState.DOWN]):
            link = self._links[key]
            self._told(key, link, link.state, link.poll(now_s))

    # --- questions ---

    def problem(self, prefill_id: str, decode_id: str) -> str | None:
        """Return why this pair may not be chosen; None when it may."""
        key = (prefill_id, decode_id)
        if key in self._problems:
            return self._problems[key]
        link = self._links.get(key)
        return link.reason if link is not None and link.is_barred else None

    def retry_after_s(self, now_s: float) -> float | None:
        """Return when the next pair that is down is tried again, from here on; None: none is."""
        due_at_s = [self._links[key].due_at_s for key in self._keys[LinkState.DOWN]]
        return max(0.0, min(due_at_s) - now_s) if due_at_s else None

    def counts(self) -> dict[str, int]:
        """Return the number of pairs by state; those that cannot exchange KV as `incompatible`."""
        problems = self._problems.keys()
        counts = {state.value: len(keys - problems) for state, keys in self._keys.items()}
        num_pairs = len(self._prefill_ids) * len(self._decode_ids)
        num_told = len(problems) + sum(counts.values())
        counts[LinkState.UNKNOWN.value] += num_pairs - num_told
        return counts | {INCOMPATIBLE: len(problems)}

    def remarkable(self) -> Iterator[PairStanding]:
        """Yield the pairs that something is wrong with, those that cannot exchange KV first."""
        states = (LinkState.DOWN, LinkState.TRIAL, LinkState.DUE, LinkState.SUSPECT)
        for keys in (self._problems, *(self._keys[state] for state in states)):
            for key in sorted(keys):
                if keys is self._problems or key not in self._problems:
                    yield self.standing(*key)

    def standing(self, prefill_id: str, decode_id: str) -> PairStanding:
        """Return what is known of a pair, also of one that nothing was heard of."""
        key = (prefill_id, decode_id)
        problem = self._problems.get(key, "")
        link = self._links.get(key)
        if link is None:
            return PairStanding(*key, LinkState.UNKNOWN, problem, "", None, None, 0)
        due_at_s = None if link.due_at_s == math.inf else link.due_at_s
        return PairStanding(
            *key, link.state, problem, link.reason, link.since_s, due_at_s, link.num_failures
        )

    # --- inside ---

    def _has(self, key: PairKey) -> bool:
        return key[0] in self._prefill_ids and key[1] in self._decode_ids

    def _link(self, key: PairKey, now_s: float) -> Link | None:
        link = self._links.get(key)
        if link is None and self._has(key):
            link = self._links[key] = Link(self._config, now_s)
            self._keys[link.state].add(key)
        return link

    def _told(self, key: PairKey, link: Link, before: LinkState, has_changed: bool) -> None:
        if not has_changed:
            return
        self.num_changes[before, link.state] += 1
        self._keys[before].remove(key)
        self._keys[link.state].add(key)
        self._sum_up()
        if link.is_barred or before in BARRED_STATES:
            self._bar()
        self.on_link_changed(key, before, link)

    def _sum_up(self) -> None:
        keys = self._keys
        self.has_due = bool(keys[LinkState.DUE])
        self.has_trials = bool(keys[LinkState.TRIAL])
        num_pairs = len(self._prefill_ids) * len(self._decode_ids)
        self.is_settled = len(keys[LinkState.OK]) == num_pairs

    def _bar(self) -> None:
        barred: dict[str, set[str]] = {}
        for keys in (self._problems, *(self._keys[state] for state in BARRED_STATES)):
            for prefill_id, decode_id in keys:
                barred.setdefault(prefill_id, set()).add(decode_id)
        frozen = {prefill_id: frozenset(ids) for prefill_id, ids in barred.items()}
        if frozen != self.barred:
            self.barred = frozen
            for listener in self._listeners:
                listener()
