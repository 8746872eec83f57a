"""One simulated worker: its engine, and what the router counts about it."""

import math
from collections.abc import Iterable, Mapping

from hfx_sgl.engine.engine import Engine
from hfx_sgl.engine.profile import EngineProfile
from hfx_sgl.engine.step_times.times import StepTimes
from hfx_sgl.results.run import WorkerSample
from hfx_sgl.sim.scaled_times import ScaledStepTimes
from hfx_sgl.sim.spec import SimSpec
from hfx_sgl.types import Role


class SimWorker:
    """A policy sees it as a WorkerView; the simulation drives its engine."""

    __slots__ = ("engine", "num_inflight", "role", "wake_at_s", "worker_id")

    def __init__(self, worker_id: str, role: Role, engine: Engine) -> None:
        self.worker_id = worker_id
        self.role = role
        self.engine = engine
        self.num_inflight = 0
        """Legs that the router has sent and not seen the end of."""
        self.wake_at_s = math.inf
        """When the engine is to be advanced next; entries of the agenda for other instants are
        stale."""

    def sample(self, now_s: float) -> WorkerSample:
        """Return what the worker would report of itself."""
        load = self.engine.load(now_s)
        return WorkerSample(
            at_s=now_s,
            worker=self.worker_id,
            role=self.role,
            num_running_reqs=load.num_running_reqs,
            num_waiting_reqs=load.num_waiting_reqs,
            token_usage=load.token_usage,
        )


Pools = Mapping[Role, tuple[SimWorker, ...]]
"""The workers by role, each pool in a fixed order."""


def make_workers(
    spec: SimSpec, profile: EngineProfile, others: Iterable[EngineProfile] = ()
) -> Pools:
    """Return the pools of a cluster, every worker ready at the start of the run.

    Args:
        profile: the one that `spec.profile` names.
        others: those that `spec.worker_profiles` name.

    Raises:
        ConfigError: an engine setting is unknown or out of range.
    """
    profiles = [*others, *[profile] * sum(spec.num_of.values())]
    time_scales = [*spec.time_scales, *[1.0] * len(profiles)]
    pools: dict[Role, tuple[SimWorker, ...]] = {}
    num_made = 0
    for role, num_workers in spec.num_of.items():
        pools[role] = tuple(
            SimWorker(
                f"{role}-{index}",
                role,
                Engine(
                    profiles[num_made + index].make_spec(role, **spec.engine),
                    _scaled(profiles[num_made + index].step_times, time_scales[num_made + index]),
                    now_s=0.0,
                    is_started=True,
                ),
            )
            for index in range(num_workers)
        )
        num_made += num_workers
    return pools


def _scaled(step_times: StepTimes, scale: float) -> StepTimes:
    return step_times if scale == 1.0 else ScaledStepTimes(step_times, scale)
