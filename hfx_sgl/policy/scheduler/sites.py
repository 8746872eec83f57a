"""Chooses where a request goes, or that it waits; keeps a worker free where one needs room."""

import math

from hfx_sgl.policy.scheduler.config import SchedulerConfig
from hfx_sgl.policy.scheduler.decision import Reason
from hfx_sgl.policy.scheduler.entry import Entry
from hfx_sgl.policy.scheduler.estimates import Estimates
from hfx_sgl.policy.scheduler.partners import NOBODY, Partners
from hfx_sgl.policy.scheduler.pool import WorkerPool
from hfx_sgl.policy.scheduler.worker_state import WorkerState

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


class Sites:
    """Where requests can go: the workers of both pools, but for one that is kept for somebody."""

    def __init__(
        self,
        config: SchedulerConfig,
        estimates: Estimates,
        prefillers: WorkerPool,
        decoders: WorkerPool,
        partners: Partners,
    ) -> None:
        self._config = config
        self._estimates = estimates
        self._prefillers = prefillers
        self._decoders = decoders
        self._pairs = partners.pairs
        self._partners = partners
        self.barred_ids = NOBODY
        """Workers that cannot be used at this step, whatever they could do."""
        self.reserved: tuple[Entry, WorkerState] | None = None
        """A worker that gets nothing until there is room for this request."""
        self.is_idle = False
        """Whether most prefill workers have nothing to do."""
        self.held_until_s = math.inf
        """When the waiting of somebody ends who could go, but would break promises."""

    def begin_step(self) -> None:
        """Workers may have become ready, or gone."""
        self.barred_ids = self._partners.lonely_ids() if self._pairs.barred else NOBODY

    def release(self, entry: Entry) -> None:
        """A request is sent, or gone: no worker is kept for it any more."""
        if self.reserved is not None and self.reserved[0] is entry:
            self.reserved = None

    def reserved_move(self, now_s: float) -> Move | None:
        """Return the move of the one that a worker is kept free for, once it has room there."""
        if self.reserved is None:
            return None
        entry, state = self.reserved
        pool = self._decoders if state.worker_id in self._decoders.states else self._prefillers
        if pool.states.get(state.worker_id) is not state or not state.can_be_sent_to:
            self.reserved = None
            return None
        self._estimates.look_again(entry)
        return self.move(entry, now_s, Reason.AGED)

    def reserve(self, entry: Entry) -> None:
        """Keep a worker free for a request that nobody has room for."""
        pool = self._decoders if self._decoders.states else self._prefillers
        roomiest = pool.roomiest
        if roomiest is not None and entry.kv_tokens > pool.most_room_tokens:
            self.reserved = entry, roomiest

    def move(self, entry: Entry, now_s: float, reason: Reason = Reason.ON_TIME) -> Move | None:
        """Return where it can go now; None: it waits."""
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
        lonely_ids = self.barred_ids
        for prefiller in (first, *self._prefillers.ready.states[:_MAX_LOOKS]):
            is_good = prefiller is first or (
                self._may_use(prefiller, entry, self._prefillers)
                and (not prefiller.prompts or self._bears(prefiller, entry, now_s))
            )
            self.barred_ids = self._partners.barred_for(prefiller)
            decoder = self._decoder(entry, now_s, reason) if is_good else None
            self.barred_ids = lonely_ids
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
        return not self.is_idle or begins_at_s - now_s <= entry.detour_s

    def awaited_home(self, entry: Entry, now_s: float) -> WorkerState | None:
        """Return the worker with its prefix, if it certainly waits for it."""
        if entry.home_id is None:
            return None
        pool = self._prefillers
        if entry.avoided_ids or not pool.ready_ids.isdisjoint(entry.hit_tokens):
            return None
        home = self._home(entry)
        return home if home is not None and self._may_wait(entry, home, now_s) else None

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
        num_looks = _MAX_LOOKS + len(entry.avoided_ids) + len(self.barred_ids)
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
        self.held_until_s = min(self.held_until_s, until_s)
        return True

    def _may_use(self, state: WorkerState, entry: Entry, pool: WorkerPool) -> bool:
        if self.barred_ids and state.worker_id in self.barred_ids:
            return False
        if state.is_prefill_only:
            if entry.kv_tokens > self._decoders.most_room_tokens:
                return False
        elif entry.kv_tokens > state.room_tokens:
            return False
        if self.reserved is not None and self.reserved[1] is state:
            return self.reserved[0] is entry
        if not entry.avoided_ids:
            return True
        return state.worker_id not in entry.avoided_ids or not self._has_others(entry, pool)

    def _has_others(self, entry: Entry, pool: WorkerPool) -> bool:
        """Return whether a worker of the pool can be used that it need not avoid."""
        avoided = [pool.states.get(worker_id) for worker_id in entry.avoided_ids]
        num_avoided = sum(state is not None and state.can_be_sent_to for state in avoided)
        return pool.num_usable > num_avoided
