"""The router's part in the simulator: the seam for schedulers, and the one that uses policies.

A scheduler knows what the router knows: arrivals, the answers of its workers when they reach it,
and the time. It never looks into an engine except by `EngineLoad`.
"""

import random
from collections.abc import Callable, Mapping
from typing import Protocol

from hfx_sgl.policy.selection.catalog import make_policy
from hfx_sgl.policy.view import SelectionPolicy
from hfx_sgl.sim.request import PolicyRequest, SimRequest
from hfx_sgl.sim.spec import SimSpec
from hfx_sgl.sim.worker import Pools, SimWorker
from hfx_sgl.types import Role


class Sender(Protocol):
    """What a router can do."""

    def send(
        self, request: SimRequest, prefill: SimWorker | None, worker: SimWorker, now_s: float
    ) -> None:
        """Send it to the worker that answers and, with PD disaggregation, to a prefill worker."""
        ...

    def withdraw(self, request: SimRequest, now_s: float) -> SimRequest | None:
        """Take it back from its workers, to be sent again.

        Return what stands for it from here on; None when its answer is under way.
        """
        ...

    def reject(self, request: SimRequest, now_s: float) -> None:
        """Turn away a request that is not sent."""
        ...

    def call_at(self, at_s: float, act: "Callable[[Sender, float], None]") -> None:
        """Have `act(sender, at_s)` called then, after what was entered before for that instant."""
        ...


class SimRouter(Protocol):
    """Decides where requests go, at once or later. All calls are in order of time."""

    def on_start(self, sender: Sender, now_s: float) -> None:
        """The run begins."""
        ...

    def on_arrival(self, request: SimRequest, sender: Sender, now_s: float) -> None:
        """A request is here."""
        ...

    def on_first_token(self, request: SimRequest, sender: Sender, now_s: float) -> None:
        """The answer to a request has begun."""
        ...

    def on_leg_over(
        self, request: SimRequest, worker: SimWorker, sender: Sender, now_s: float
    ) -> None:
        """A worker has answered to the end, or refused; its in-flight count says so already."""
        ...


class PolicyRouter:
    """Chooses on arrival by the selection policy of each pool, as the router's exchanges do."""

    def __init__(self, pools: Pools, policies: Mapping[Role, SelectionPolicy]) -> None:
        self._regular = pools.get(Role.REGULAR, ())
        self._prefills = pools.get(Role.PREFILL, ())
        self._decodes = pools.get(Role.DECODE, ())
        self._policies = policies

    def on_start(self, sender: Sender, now_s: float) -> None:
        """Do nothing: time alone changes nothing."""

    def on_arrival(self, request: SimRequest, sender: Sender, now_s: float) -> None:
        """Choose and send; with PD disaggregation the prefill worker is chosen first."""
        view = PolicyRequest(request.planned)
        policies = self._policies
        if self._regular:
            worker = policies[Role.REGULAR].select(view, self._regular, now_s)
            sender.send(request, None, worker, now_s)
            return
        prefill = policies[Role.PREFILL].select(view, self._prefills, now_s)
        decode = policies[Role.DECODE].select(view, self._decodes, now_s)
        sender.send(request, prefill, decode, now_s)

    def on_first_token(self, request: SimRequest, sender: Sender, now_s: float) -> None:
        """Do nothing: policies see in-flight counts only."""

    def on_leg_over(
        self, request: SimRequest, worker: SimWorker, sender: Sender, now_s: float
    ) -> None:
        """Do nothing: the count is kept by whoever sends."""


def make_policies(spec: SimSpec) -> dict[Role, SelectionPolicy]:
    """Return one policy for each pool, each with randomness of its own.

    Raises:
        ConfigError: no such policy.
    """
    return {
        role: make_policy(
            spec.policy_of(role), spec.selection, random.Random(f"{spec.seed}:{role}")
        )
        for role in spec.num_of
    }
