"""Which router a simulation has."""

from hfx_sgl.errors import ConfigError
from hfx_sgl.sim.router import PolicyRouter, SimRouter, make_policies
from hfx_sgl.sim.slo_router import POLICY_NAME, SloRouter
from hfx_sgl.sim.spec import SimSpec
from hfx_sgl.sim.worker import Pools


def check_policies(spec: SimSpec) -> None:
    """Find out whether there is a router for the spec.

    Raises:
        ConfigError: no such policy, or a scheduler for one pool alone.
    """
    if spec.policy == POLICY_NAME:
        for flag, name in (
            ("--prefill-policy", spec.prefill_policy),
            ("--decode-policy", spec.decode_policy),
        ):
            if name is not None:
                raise ConfigError(f"{flag}: {POLICY_NAME} decides for both pools (got {name})")
    else:
        make_policies(spec)


def make_router(spec: SimSpec, pools: Pools) -> SimRouter:
    """Return the router that the spec names.

    Raises:
        ConfigError: see `check_policies`.
    """
    check_policies(spec)
    if spec.policy == POLICY_NAME:
        return SloRouter(pools, spec.scheduler, spec.knowledge, spec.seed)
    return PolicyRouter(pools, make_policies(spec))
