"""Overload with a tight and a relaxed promise: the scheduler against a policy that knows neither.

The code is that of `scripts/compare_policies`. How large the difference is belongs to a run of that
command on a quiet machine; here it only has to be beyond doubt.
"""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from policy_comparison.compare import compare
from policy_comparison.servers import CHUNK_FLAGS, EMULATED_CHUNK_FLAGS, Site, slow_down
from policy_comparison.workload import RELAXED, TIGHT, TwoClasses
from support.fleet import EMULATED_BASE_PORT, Fleet

from hfx_sgl.launch.plan import InstancePlan
from hfx_sgl.types import Role

STEP_S = 0.1
MARGIN = 0.3
_ROUTERS_OFFSET = 600
_SHAPE = (Role.PREFILL, Role.PREFILL, Role.DECODE, Role.DECODE)


@pytest.fixture
def site(fleet: Fleet) -> Iterator[Site]:
    """Two prefill servers that are slow by a known amount, and two decode servers."""
    flags = EMULATED_CHUNK_FLAGS if is_emulated(fleet) else CHUNK_FLAGS
    servers = tuple(plan_server(fleet, role, flags) for role in _SHAPE)
    fleet.cluster.add(*servers)
    try:
        slow_down(servers, STEP_S)
        yield Site(
            cluster=fleet.cluster,
            servers=servers,
            router_port=fleet.base_port + _ROUTERS_OFFSET,
            log_dir=fleet.log_dir,
        )
    finally:
        for server in servers:
            fleet.cluster.kill(server.name)


def is_emulated(fleet: Fleet) -> bool:
    return fleet.base_port == EMULATED_BASE_PORT


def plan_server(fleet: Fleet, role: Role, flags: tuple[str, ...]) -> InstancePlan:
    slot = fleet.next_slot
    fleet.next_slot += 1
    plan = fleet.plan_one(role, slot, slot)
    return replace(plan, argv=(*plan.argv, *flags))


@pytest.mark.slow
@pytest.mark.timeout(150)
def test_the_tight_promise_is_kept_far_more_often(site: Site) -> None:
    workload = TwoClasses(duration_s=6.0)
    num_requests = len(list(workload.requests()))
    hfx, blind = compare(site, workload, ("hfx", "round_robin"), say=lambda line: None)
    for run in (hfx, blind):
        assert run.errors == []
        assert run.num_answered == run.num_requests == num_requests, "nothing is lost"
        assert run.remains == {}, "nothing is held when all is over"
        assert run.attainment.keys() == {TIGHT, RELAXED}
    assert blind.attainment[TIGHT] < 0.5, "there was no overload to speak of"
    assert hfx.attainment[TIGHT] >= blind.attainment[TIGHT] + MARGIN
    assert hfx.attainment[RELAXED] >= blind.attainment[RELAXED] - 0.05
