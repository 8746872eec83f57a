"""The bound itself: how many requests of a trace any scheduler could keep at most."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from clairvoyant.cache import Cache
from clairvoyant.jobs import Jobs, make_jobs
from clairvoyant.pool import Pool, Work
from clairvoyant.program import Columns, Program

from hfx_sgl.engine.profile import EngineProfile
from hfx_sgl.sim.spec import SimSpec
from hfx_sgl.types import Role
from hfx_sgl.workload.planned import PlannedRequest

_PRICE_QUANTILES = (0.1, 0.3, 0.5, 0.7, 0.9)
_PATIENCE_ROUNDS = 4
_ENOUGH_RATIO = 1e-4
"""Intervals are looked for until so many rounds together gain less than this share."""
_ROUNDING = 0.01
"""Requests by which the solver's optimum may be too low."""
_TOLERANCE_S = 0.01
"""Intervals that ask less than this too much are left alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """What no scheduler can exceed."""

    num_requests: int
    num_kept: int
    """Requests that keep every promise, at most."""
    num_intervals: int
    """Intervals that the pools were looked at in."""
    is_final: bool
    """Whether the last look found none that asks too much. The bound holds in any case."""

    @property
    def attainment(self) -> float:
        """Their share (0..1)."""
        return self.num_kept / self.num_requests


def upper_bound(
    spec: SimSpec,
    requests: Sequence[PlannedRequest],
    profile: EngineProfile,
    *,
    max_rounds: int = 40,
    on_round: Callable[[int, float], None] = lambda num_rounds, num_kept: None,
) -> Bound:
    """Return the bound for a trace on the cluster of `spec`.

    Args:
        max_rounds: how often intervals are looked for; fewer are quicker and bound less.
        on_round: told of each round and how many requests can be kept by then.
    """
    jobs = make_jobs(requests, spec, profile)
    program = Program()
    num = len(requests)
    kept = program.add_columns(np.ones(num), np.zeros(num), jobs.can_be_kept)
    role = Role.PREFILL if spec.is_pd else Role.REGULAR
    engine = profile.make_spec(role, **spec.engine)
    cache = Cache(program, jobs, kept, spec.num_of[role] * engine.kv_capacity_tokens)
    pools = _pools(spec, jobs, kept, cache, engine.kv_capacity_tokens)
    history: list[float] = []
    num_intervals = 0
    is_final = False
    while len(history) < max_rounds and not _is_enough(history, num):
        solution = program.solve()
        history.append(solution.objective)
        on_round(len(history), solution.objective)
        num_cuts = sum(pool.cut(program, solution.values, _TOLERANCE_S) for pool in pools)
        num_intervals += num_cuts
        if not num_cuts:
            is_final = True
            break
    return Bound(
        num_requests=num,
        num_kept=math.floor(min(history) + _ROUNDING),
        num_intervals=num_intervals,
        is_final=is_final,
    )


def _is_enough(history: Sequence[float], num_requests: int) -> bool:
    if len(history) <= _PATIENCE_ROUNDS:
        return False
    return history[-1 - _PATIENCE_ROUNDS] - history[-1] < _ENOUGH_RATIO * num_requests


def _pools(
    spec: SimSpec, jobs: Jobs, kept: Columns, cache: Cache, capacity_tokens: int
) -> list[Pool]:
    num_prefill = spec.num_of[Role.PREFILL if spec.is_pd else Role.REGULAR]
    prompts = Work(
        columns=kept, release_s=jobs.release_s, due_s=jobs.prefilled_by_s, seconds=jobs.own_s
    )
    outputs = Work(
        columns=kept, release_s=jobs.release_s, due_s=jobs.done_by_s, seconds=jobs.decode_s
    )
    if not spec.is_pd:
        return [Pool(num_prefill, [prompts, *cache.works, outputs])]
    return [
        Pool(num_prefill, [prompts, *cache.works]),
        *_decode_pools(spec, jobs, kept, capacity_tokens),
    ]


def _decode_pools(spec: SimSpec, jobs: Jobs, kept: Columns, capacity_tokens: int) -> list[Pool]:
    """Return the decode pool, looked at in several ways.

    Who is not done at the end of an interval, and has its prompt computed, holds room. So with any
    price of a token held, no more can be left undone than what all the room costs, and what the
    work of each request exceeds the price of its own room by.
    """
    num_workers = spec.num_of[Role.DECODE]
    held = Work(
        columns=kept,
        release_s=jobs.release_s - spec.handshake_s,
        due_s=jobs.prefilled_by_s,
        seconds=jobs.held_s,
    )
    prices = np.quantile(jobs.decode_s / jobs.held_tokens, _PRICE_QUANTILES)
    pools = []
    for price_s in (0.0, *prices):
        before_s = np.minimum(jobs.decode_s, price_s * jobs.held_tokens)
        parts = [
            Work(columns=kept, release_s=jobs.release_s, due_s=due_s, seconds=seconds)
            for due_s, seconds in (
                (jobs.prefilled_by_s, before_s),
                (jobs.done_by_s, jobs.decode_s - before_s),
            )
        ]
        spare_s = float(price_s) * num_workers * capacity_tokens
        pools.append(Pool(num_workers, [held, *parts], spare_s))
    return pools
