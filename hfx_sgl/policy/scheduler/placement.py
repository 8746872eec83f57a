"""Chooses who goes next, and where. Changes nothing but the queue's judgement of who is late."""

import math

from hfx_sgl.policy.scheduler.config import OnInfeasible, Order, SchedulerConfig
from hfx_sgl.policy.scheduler.decision import Reason
from hfx_sgl.policy.scheduler.entry import Entry
from hfx_sgl.policy.scheduler.estimates import Estimates
from hfx_sgl.policy.scheduler.fairness import KeptShares
from hfx_sgl.policy.scheduler.on_time import Job, on_time
from hfx_sgl.policy.scheduler.partners import NOBODY, Partners
from hfx_sgl.policy.scheduler.pool import WorkerPool
from hfx_sgl.policy.scheduler.queue import WaitingQueue
from hfx_sgl.policy.scheduler.waiters import Waiters
from hfx_sgl.policy.scheduler.worker_state import WorkerState

_SOON_S = 0.001
_MAX_HITS = 160
"""So many of the most urgent are looked at for a prefix that saves much."""
_MAX_DETOURS = 8
"""Of so many the one is sent that loses least by not waiting for its prefix."""
_MAX_LOOKS = 8
"""So many workers are looked at for one request, the least loaded first."""


class Move:
    """Who goes where, and why. On a unified worker both are the same."""

    __slots__ = ("decoder", "entry", "extra_s", "prefiller", "reason")

    def __init__(
        self,
        entry: Entry,
        prefiller: WorkerState,
        decoder: WorkerState,
        reason: Reason,
        extra_s: float,
    ) -> None:
        self.entry = entry
        self.prefiller = prefiller
        self.decoder = decoder
        self.reason = reason
        self.extra_s = extra_s
        """What it costs not to wait for the worker that has its prefix."""


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
        partners: Partners,
    ) -> None:
        self._config = config
        self._estimates = estimates
        self._queue = queue
        self._prefillers = prefillers
        self._decoders = decoders
        self._shares = kept
        self._pairs = partners.pairs
        self._partners = partners
        self._barred_ids = NOBODY
        """Workers that cannot be used at this step, whatever they could do."""
        self._credit_s = 0.0
        """Prefill time that requests which can no longer be on time have earned."""
        self._reserved: tuple[Entry, WorkerState] | None = None
        """A worker that gets nothing until there is room for this request."""
        self._is_idle = False
        """Whether most prefill workers have nothing to do."""
        self._waiters = Waiters(prefillers, decoders)
        self._stuck: set[int] = set()
        """Who could not go anywhere, by sequence, since the last `begin`."""
        self.recheck_at_s = math.inf
        """When to look again though nothing happens: somebody's waiting ends."""
        self._rejects = config.on_infeasible is OnInfeasible.REJECT
        self._is_calm = False
        """Whether there is nothing to weigh: see `_calm_move`."""

    def begin(self, now_s: float, *, are_all_new: bool) -> None:
        """A decision begins: what follows is at one instant, with nothing happening in between.

        `are_all_new`: nobody waits who has waited before.
        """
        self._stuck.clear()
        self.recheck_at_s = math.inf
        self._is_calm = are_all_new and not self._rejects and self._suffices(now_s)

    def next_move(self, now_s: float) -> Move | None:
        """Return who goes where next; None: nobody can, or should, before something changes."""
        self._prefillers.settle(now_s)
        self._decoders.settle(now_s)
        if not (self._prefillers.ready.states or self._rejects):
            return None
        self._barred_ids = self._partners.lonely_ids() if self._pairs.barred else NOBODY
        if self._reserved is not None and (move := self._reserved_move(now_s)) is not None:
            return move
        estimates = self._estimates
        is_new = estimates.refresh(now_s)
        if self._is_calm and not is_new and (move := self._calm_move(now_s)) is not None:
            return move
        self._is_calm = False
        pool = self._prefillers
        self._is_idle = 2 * len(pool.ready.states) > pool.num_usable
        self._waiters.begin((self._barred_ids, self._reserved, self._is_idle), is_new=is_new)
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
            self.recheck_at_s = min(self.recheck_at_s, now_s + _SOON_S)
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
                return self._move(entry, now_s)
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
        move = self._move(best, now_s)
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
            if entry.detour_s > steal_extra_s and self._waits(entry, now_s):
                seen.add(sequence)
                continue
            move = self._move(entry, now_s)
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
        if self._reserved is not None and self._reserved[0] is entry:
            self._reserved = None
        if entry is self._queue.oldest_demoted():
            # The oldest spends what all others earn it: a share of their prefill time.
            self._credit_s = max(0.0, self._credit_s - entry.service_s)
        elif self._queue.num_demoted:
            self._credit_s += self._config.demoted_share * entry.prefill_s

    def gone(self, entry: Entry) -> None:
        """A request left the queue without being sent."""
        self._waiters.discard(entry)
        if self._reserved is not None and self._reserved[0] is entry:
            self._reserved = None

    def worker_left(self) -> None:
        """A worker that computed prompts has left, and all that was cached there is gone."""
        self._waiters.forget()

    # --- who ---

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

    def _give_up(self, urgent: list[Entry], kept: list[Entry], now_s: float) -> None:
        """Take those for late who have been given up for a good part of the time they have."""
        for entry in urgent:
            entry.is_kept = False
        for entry in kept:
            entry.is_kept = True
        for entry in urgent:
            latest_s = entry.deadline_s - entry.service_s
            self.recheck_at_s = min(self.recheck_at_s, latest_s + _SOON_S)
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
        move = self._move(oldest, now_s, Reason.AGED)
        if move is None and self._reserved is None:
            self._reserve(oldest)
        return move

    def _reserved_move(self, now_s: float) -> Move | None:
        """Return the move of the one that a worker is kept free for, once it has room there."""
        if self._reserved is None:
            return None
        entry, state = self._reserved
        pool = self._decoders if state.worker_id in self._decoders.states else self._prefillers
        if pool.states.get(state.worker_id) is not state or not state.can_be_sent_to:
            self._reserved = None
            return None
        self._estimates.look_again(entry)
        return self._move(entry, now_s, Reason.AGED)

    def _late_move(self, now_s: float) -> Move | None:
        """Return a move of one that can no longer be on time, the shortest first."""
        for entry in self._queue.shortest_demoted(_MAX_LOOKS):
            move = self._move(entry, now_s, Reason.LATE)
            if move is not None:
                return move
        return None

    # --- where ---

    def _move(self, entry: Entry, now_s: float, reason: Reason = Reason.ON_TIME) -> Move | None:
        prefiller, extra_s = self._prefiller(entry, now_s, reason)
        if prefiller is None:
            return None
        if (
            reason is not Reason.LATE
            and prefiller.prompts
            and not self._bears(prefiller, entry, now_s)
        ):
            return None
        decoder = prefiller if prefiller.is_unified else self._decoder(entry, now_s, reason)
        if self._pairs.barred and not prefiller.is_unified:
            found = self._partnered(entry, prefiller, decoder, now_s, reason)
            if found is None:
                return None
            prefiller, decoder = found
        if decoder is None:
            return None
        if reason is Reason.ON_TIME and entry.home_id == prefiller.worker_id:
            reason = Reason.PREFIX_HOME
        return Move(entry, prefiller, decoder, reason, extra_s)

    def _partnered(
        self,
        entry: Entry,
        first: WorkerState,
        decoder: WorkerState | None,
        now_s: float,
        reason: Reason,
    ) -> tuple[WorkerState, WorkerState] | None:
        """Return a pair that may exchange KV, where not all may: if possible, these two."""
        if decoder is not None and decoder.worker_id not in self._partners.barred_for(first):
            return first, decoder
        lonely_ids = self._barred_ids
        for prefiller in (first, *self._prefillers.ready.states[:_MAX_LOOKS]):
            is_good = prefiller is first or (
                self._may_use(prefiller, entry, self._prefillers)
                and (not prefiller.prompts or self._bears(prefiller, entry, now_s))
            )
            self._barred_ids = self._partners.barred_for(prefiller)
            decoder = self._decoder(entry, now_s, reason) if is_good else None
            self._barred_ids = lonely_ids
            if decoder is not None:
                return prefiller, decoder
        return None

    def _bears(self, state: WorkerState, entry: Entry, now_s: float) -> bool:
        prefill_s = self._estimates.prefill_s(entry, state.worker_id)
        return state.bears(max(state.free_at_s, now_s) + prefill_s, now_s)

    def _prefiller(
        self, entry: Entry, now_s: float, reason: Reason
    ) -> tuple[WorkerState | None, float]:
        """Return the least loaded that is ready, or the one with the prefix; None: it waits.

        And what it costs not to wait, where it could.
        """
        best = self._best(entry, self._prefillers, now_s, reason)
        home = None if entry.home_id is None else self._home(entry)
        if home is None or best is home:
            return best, 0.0
        if best is None:
            is_good = home.is_ready and not self._is_spoilt(home, entry)
            return (home if is_good else None), 0.0
        home_s = self._estimates.prefill_s(entry, home.worker_id)
        if home.is_ready:
            is_worse = self._estimates.prefill_s(entry, best.worker_id) > home_s
            return (home if is_worse else best), 0.0
        best, best_s = self._ready_holder(entry, best)
        extra_s = best_s - home_s
        if extra_s <= 0.0:
            return best, 0.0
        if not self._may_wait(entry, home, now_s):
            return best, 0.0
        return (best if extra_s <= self._config.steal_extra_s else None), extra_s

    def _ready_holder(self, entry: Entry, best: WorkerState) -> tuple[WorkerState, float]:
        """Return where its prefill is shortest of `best` and the others that have its prefix."""
        best_s = self._estimates.prefill_s(entry, best.worker_id)
        pool = self._prefillers
        for worker_id in entry.hit_tokens:
            if worker_id not in pool.ready_ids:
                continue
            state = pool.states[worker_id]
            prefill_s = self._estimates.prefill_s(entry, worker_id)
            if prefill_s < best_s and self._may_use(state, entry, pool):
                if state.is_unified and self._is_spoilt(state, entry):
                    continue
                best, best_s = state, prefill_s
        return best, best_s

    def _may_wait(self, entry: Entry, home: WorkerState, now_s: float) -> bool:
        """Return whether it is on time when it waits for that worker, and saves somebody's time.

        The time of workers of which most have nothing to do need not be saved.
        """
        begins_at_s = home.ready_at_s
        if begins_at_s + entry.service_s > entry.deadline_s:
            return False
        return not self._is_idle or begins_at_s - now_s <= entry.detour_s

    def _all_wait(self, urgent: list[Entry]) -> bool:
        """Return whether it is known that all of them wait, so that there is nothing to choose."""
        seen = self._waiters.seen
        if self._rejects or len(seen) < len(urgent) or not urgent:
            return False
        return all(entry.sequence in seen for entry in urgent)

    def _waits(self, entry: Entry, now_s: float) -> bool:
        """Return whether it certainly waits for the worker with its prefix.

        Of those in the window many may do so: it is remembered.
        """
        if entry.home_id is None:
            return False
        pool = self._prefillers
        if entry.avoided_ids or not pool.ready_ids.isdisjoint(entry.hit_tokens):
            return False
        home = pool.states.get(entry.home_id)
        if home is None or not home.can_be_sent_to or not self._may_use(home, entry, pool):
            return False
        if not self._may_wait(entry, home, now_s):
            return False
        if not self._estimates.is_exhausted:
            # Otherwise it may not be judged by what is known of its prefix now.
            self._waiters.add(entry, home)
        return True

    def _home(self, entry: Entry) -> WorkerState | None:
        """Return the worker that has most of its prefix, when it can go there at some time."""
        if entry.home_id is None:
            return None
        home = self._prefillers.states.get(entry.home_id)
        if home is None or not home.can_be_sent_to:
            return None
        return home if self._may_use(home, entry, self._prefillers) else None

    def _decoder(self, entry: Entry, now_s: float, reason: Reason) -> WorkerState | None:
        """Return the one whose steps stay shortest; None: no room, or it waits for a better."""
        return self._best(entry, self._decoders, now_s, reason)

    def _best(
        self, entry: Entry, pool: WorkerPool, now_s: float, reason: Reason
    ) -> WorkerState | None:
        """Return the least loaded worker that is ready, and where nobody's promise breaks."""
        if entry.kv_tokens > pool.most_room_tokens:
            return None
        fallback: WorkerState | None = None
        spoils_others = False
        num_looks = _MAX_LOOKS + len(entry.avoided_ids) + len(self._barred_ids)
        for state in pool.ready.states[:num_looks]:
            if not self._may_use(state, entry, pool):
                continue
            if state.is_prefill_only or not self._config.guards_tpot:
                return state
            others, own = self._estimates.spoils(state, entry)
            if not (others or own):
                return state
            if fallback is None or (spoils_others and not others):
                fallback, spoils_others = state, others
        if fallback is None:
            roomiest = pool.roomiest
            if roomiest is not None and roomiest.is_ready and self._may_use(roomiest, entry, pool):
                fallback = roomiest
        if fallback is not None and spoils_others and self._can_hold(entry, now_s, reason):
            return None
        return fallback

    def _is_spoilt(self, state: WorkerState, entry: Entry) -> bool:
        return self._config.guards_tpot and any(self._estimates.spoils(state, entry))

    def _can_hold(self, entry: Entry, now_s: float, reason: Reason) -> bool:
        """Return whether to wait rather than break the promises of those that run."""
        if reason is Reason.AGED:
            return False
        if reason is Reason.LATE:
            return True
        until_s = entry.deadline_s - entry.service_s - self._config.lookahead_s
        if until_s <= now_s:
            return False
        self.recheck_at_s = min(self.recheck_at_s, until_s)
        return True

    def _may_use(self, state: WorkerState, entry: Entry, pool: WorkerPool) -> bool:
        if self._barred_ids and state.worker_id in self._barred_ids:
            return False
        if state.is_prefill_only:
            if entry.kv_tokens > self._decoders.most_room_tokens:
                return False
        elif entry.kv_tokens > state.room_tokens:
            return False
        if self._reserved is not None and self._reserved[1] is state:
            return self._reserved[0] is entry
        if not entry.avoided_ids:
            return True
        return state.worker_id not in entry.avoided_ids or not self._has_others(entry, pool)

    def _has_others(self, entry: Entry, pool: WorkerPool) -> bool:
        """Return whether a worker of the pool can be used that it need not avoid."""
        avoided = [pool.states.get(worker_id) for worker_id in entry.avoided_ids]
        num_avoided = sum(state is not None and state.can_be_sent_to for state in avoided)
        return pool.num_usable > num_avoided

    def _reserve(self, entry: Entry) -> None:
        """Keep a worker free for a request that nobody has room for."""
        pool = self._decoders if self._decoders.states else self._prefillers
        roomiest = pool.roomiest
        if roomiest is not None and entry.kv_tokens > pool.most_room_tokens:
            self._reserved = entry, roomiest


def _least_spare_s(entries: list[Entry], start_s: float, speed: float) -> float:
    """Return by how much all could be later when they are computed in this order; below 0: late."""
    spare_s = math.inf
    for entry in entries:
        start_s += entry.service_s / speed
        if entry.deadline_s - start_s < spare_s:
            spare_s = entry.deadline_s - start_s
    return spare_s
