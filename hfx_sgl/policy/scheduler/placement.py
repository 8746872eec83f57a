"""Chooses who goes next. Changes nothing but the queue's judgement of who is late."""

import math

from hfx_sgl.policy.scheduler.config import OnInfeasible, Order, SchedulerConfig
from hfx_sgl.policy.scheduler.decision import Reason
from hfx_sgl.policy.scheduler.entry import Entry
from hfx_sgl.policy.scheduler.estimates import Estimates
from hfx_sgl.policy.scheduler.fairness import KeptShares
from hfx_sgl.policy.scheduler.on_time import Job, on_time
from hfx_sgl.policy.scheduler.pool import WorkerPool
from hfx_sgl.policy.scheduler.queue import WaitingQueue
from hfx_sgl.policy.scheduler.sites import Move, Sites
from hfx_sgl.policy.scheduler.waiters import Waiters

_SOON_S = 0.001
_MAX_HITS = 160
"""So many of the most urgent are looked at for a prefix that saves much."""
_MAX_DETOURS = 8
"""Of so many the one is sent that loses least by not waiting for its prefix."""
_MAX_LOOKS = 8
"""So many requests are looked at behind those that are looked at first."""


class Placement:
    """Keeps as many on time as it can; who cannot be on time gets what is left over, and ages."""

    def __init__(
        self,
        config: SchedulerConfig,
        estimates: Estimates,
        queue: WaitingQueue,
        prefillers: WorkerPool,
        decoders: WorkerPool,
        kept: KeptShares,
        sites: Sites,
    ) -> None:
        self._config = config
        self._estimates = estimates
        self._queue = queue
        self._prefillers = prefillers
        self._decoders = decoders
        self._shares = kept
        self._sites = sites
        self._credit_s = 0.0
        """Prefill time that requests which can no longer be on time have earned."""
        self._waiters = Waiters(prefillers, decoders)
        self._stuck: set[int] = set()
        """Who could not go anywhere, by sequence, since the last `begin`."""
        self._recheck_at_s = math.inf
        self._rejects = config.on_infeasible is OnInfeasible.REJECT
        self._is_calm = False
        """Whether there is nothing to weigh: see `_calm_move`."""

    @property
    def recheck_at_s(self) -> float:
        """When to look again though nothing happens: somebody's waiting ends."""
        return min(self._recheck_at_s, self._sites.held_until_s)

    def begin(self, now_s: float, *, are_all_new: bool) -> None:
        """A decision begins: what follows is at one instant, with nothing happening in between.

        `are_all_new`: nobody waits who has waited before.
        """
        self._stuck.clear()
        self._recheck_at_s = self._sites.held_until_s = math.inf
        self._is_calm = are_all_new and not self._rejects and self._suffices(now_s)

    def next_move(self, now_s: float) -> Move | None:
        """Return who goes where next; None: nobody can, or should, before something changes."""
        self._prefillers.settle(now_s)
        self._decoders.settle(now_s)
        if not (self._prefillers.ready.states or self._rejects):
            return None
        sites = self._sites
        sites.begin_step()
        if sites.reserved is not None and (move := sites.reserved_move(now_s)) is not None:
            return move
        estimates = self._estimates
        is_new = estimates.refresh(now_s)
        if self._is_calm and not is_new and (move := self._calm_move(now_s)) is not None:
            return move
        self._is_calm = False
        pool = self._prefillers
        sites.is_idle = 2 * len(pool.ready.states) > pool.num_usable
        self._waiters.begin((sites.barred_ids, sites.reserved, sites.is_idle), is_new=is_new)
        urgent, late = self._queue.urgent(
            self._config.window, now_s, estimates.look_again, is_new=is_new
        )
        for entry in late:
            self._shares.count(entry, is_kept=False)
            self._waiters.discard(entry)
        if self._all_wait(urgent):
            kept, spare_s = urgent, 0.0
        else:
            kept, spare_s = self._kept(urgent, now_s)
        if self._rejects:
            self._give_up(urgent, kept, now_s)
        elif (aged := self._aged_move(spare_s, now_s)) is not None:
            return aged
        elif not urgent:
            return self._late_move(now_s)
        move = self._hit_move(spare_s, now_s) or self._first_move(kept, now_s)
        if move is None and len(urgent) == self._config.window:
            # All of them wait for their prefixes, or for room; others behind them need not.
            last_key = urgent[-1].key
            first_free = self._queue.first_free(_MAX_LOOKS)
            free = [entry for entry in first_free if entry.key > last_key]
            move = self._first_move(free, now_s)
        if move is None and self._estimates.is_exhausted:
            self._recheck_at_s = min(self._recheck_at_s, now_s + _SOON_S)
        return move

    def _suffices(self, now_s: float) -> bool:
        """Return whether all that waits is on time in whatever order, and nobody has a prefix.

        On time even if prefills got their least share of the workers' time from here on, with
        everything taken twice.
        """
        queue = self._queue
        if queue.num_demoted or not queue.are_all_free:
            return False
        start_s, speed = self._prefillers.capacity(now_s)
        least_speed = self._config.min_prefill_share * speed
        ends_at_s = start_s + self._config.lookahead_s + 2.0 * queue.backlog_s / least_speed
        return ends_at_s <= queue.first_deadline_s

    def _calm_move(self, now_s: float) -> Move | None:
        """Return the move of the most urgent, who would be chosen after long thought, too.

        That saves most of what a decision costs under light load. None: it takes thought.
        """
        for entry in self._queue.feasible[:1]:
            if not entry.grains or not self._estimates.is_stale(entry):
                return self._sites.move(entry, now_s)
        return None

    def _hit_move(self, spare_s: float, now_s: float) -> Move | None:
        """Return the move of the oldest whose prefix saves much and for whom others can wait.

        What it saves may be evicted while it waits.
        """
        best: Entry | None = None
        hits, feasible = self._queue.hits, self._queue.feasible
        for home_id in self._prefillers.ready_ids & hits.home_ids:
            for entry in hits.of(home_id, feasible[min(len(feasible), _MAX_HITS) - 1]):
                if entry.service_s > spare_s or not entry.is_feasible(now_s):
                    continue
                if best is None or entry.sequence < best.sequence:
                    best = entry
        if best is None:
            return None
        self._estimates.look_again(best)
        if not hits.is_much(best):
            return None
        move = self._sites.move(best, now_s)
        return move if move is not None and move.reason is Reason.PREFIX_HOME else None

    def _first_move(self, kept: list[Entry], now_s: float) -> Move | None:
        """Return the move of the first that can go without a detour, else the least detour."""
        least: Move | None = None
        num_detours = 0
        estimates, steal_extra_s = self._estimates, self._config.steal_extra_s
        stuck, ready_ids = self._stuck, self._prefillers.ready_ids
        seen, known = self._waiters.seen, self._waiters.known
        for entry in kept:
            sequence = entry.sequence
            if sequence in known:
                seen.add(sequence)
                continue
            if sequence in seen or sequence in stuck:
                continue
            is_away = entry.home_id is not None and ready_ids.isdisjoint(entry.hit_tokens)
            if is_away and num_detours >= _MAX_DETOURS:
                continue
            if not estimates.is_exhausted:
                estimates.look_again(entry)
            if entry.detour_s > steal_extra_s:
                home = self._sites.awaited_home(entry, now_s)
                if home is not None:
                    if not estimates.is_exhausted:
                        # Otherwise it may not be judged by what is known of its prefix now.
                        self._waiters.add(entry, home)
                    seen.add(sequence)
                    continue
            move = self._sites.move(entry, now_s)
            if move is None:
                # Nor will it be able to go later in this decision, with one worker less ready.
                stuck.add(sequence)
                continue
            if not move.extra_s:
                return move
            num_detours += 1
            if least is None or move.extra_s < least.extra_s:
                least = move
        return least

    def sent(self, move: Move) -> None:
        """The move is made, its entry not yet out of the queue."""
        entry = move.entry
        self._waiters.sent(entry)
        self._sites.release(entry)
        if entry is self._queue.oldest_demoted():
            # The oldest spends what all others earn it: a share of their prefill time.
            self._credit_s = max(0.0, self._credit_s - entry.service_s)
        elif self._queue.num_demoted:
            self._credit_s += self._config.demoted_share * entry.prefill_s

    def gone(self, entry: Entry) -> None:
        """A request left the queue without being sent."""
        self._waiters.discard(entry)
        self._sites.release(entry)

    def worker_left(self) -> None:
        """A worker that computed prompts has left, and all that was cached there is gone."""
        self._waiters.forget()

    def _kept(self, urgent: list[Entry], now_s: float) -> tuple[list[Entry], float]:
        """Return whom to keep on time, in order of deadline, and what can be put before them.

        The latter as prefill time; `math.inf` where nobody waits.
        """
        if not urgent:
            return urgent, math.inf
        start_s, speed = self._prefillers.capacity(now_s)
        spare_s = _least_spare_s(urgent, start_s, speed)
        if spare_s >= 0.0 or len(urgent) == 1 or self._config.order is not Order.FEWEST_LATE:
            return urgent, speed * spare_s  # nobody needs to be given up, as most often
        kept = list(on_time([(entry, self._job(entry)) for entry in urgent], start_s, speed))
        if not kept:
            return [min(urgent, key=lambda entry: entry.service_s)], 0.0
        return kept, speed * _least_spare_s(kept, start_s, speed)

    def _job(self, entry: Entry) -> Job:
        return Job(entry.deadline_s, entry.service_s, self._shares.weight(entry.facts))

    def _all_wait(self, urgent: list[Entry]) -> bool:
        """Return whether it is known that all of them wait, so that there is nothing to choose."""
        seen = self._waiters.seen
        if self._rejects or len(seen) < len(urgent) or not urgent:
            return False
        return all(entry.sequence in seen for entry in urgent)

    def _give_up(self, urgent: list[Entry], kept: list[Entry], now_s: float) -> None:
        """Take those for late who have been given up for a good part of the time they have."""
        for entry in urgent:
            entry.is_kept = False
        for entry in kept:
            entry.is_kept = True
        for entry in urgent:
            latest_s = entry.deadline_s - entry.service_s
            self._recheck_at_s = min(self._recheck_at_s, latest_s + _SOON_S)
            if entry.is_kept:
                entry.given_up_at_s = None
            elif entry.given_up_at_s is None:
                entry.given_up_at_s = now_s
            elif now_s - entry.given_up_at_s > self._config.give_up_share * (
                latest_s - entry.facts.arrived_at_s
            ):
                self._queue.demote(entry)
                self._waiters.discard(entry)

    def _aged_move(self, spare_s: float, now_s: float) -> Move | None:
        """Return the move of the oldest late request, when its turn has come.

        While it costs others their promises it waits for twice its share of time, not longer.
        """
        oldest = self._queue.oldest_demoted()
        if oldest is None or oldest.service_s > self._credit_s:
            return None
        if oldest.service_s > spare_s and 2 * oldest.service_s > self._credit_s:
            return None
        if self._config.on_infeasible is OnInfeasible.BEST_EFFORT:
            return None
        self._estimates.look_again(oldest)
        move = self._sites.move(oldest, now_s, Reason.AGED)
        if move is None and self._sites.reserved is None:
            self._sites.reserve(oldest)
        return move

    def _late_move(self, now_s: float) -> Move | None:
        """Return a move of one that can no longer be on time, the shortest first."""
        for entry in self._queue.shortest_demoted(_MAX_LOOKS):
            move = self._sites.move(entry, now_s, Reason.LATE)
            if move is not None:
                return move
        return None


def _least_spare_s(entries: list[Entry], start_s: float, speed: float) -> float:
    """Return by how much all could be later when they are computed in this order; below 0: late."""
    spare_s = math.inf
    for entry in entries:
        start_s += entry.service_s / speed
        if entry.deadline_s - start_s < spare_s:
            spare_s = entry.deadline_s - start_s
    return spare_s
