"""The same requests through one router after the other, each with a policy of its own."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import uvloop
from policy_comparison.remains import what_remains
from policy_comparison.servers import Site, flush_caches
from policy_comparison.workload import TwoClasses

from hfx_sgl.clock import WallClock
from hfx_sgl.launch import prepare
from hfx_sgl.launch.plan import http_url, plan_router
from hfx_sgl.loadtest.session import Harvest, Listeners, run_load_test
from hfx_sgl.loadtest.settings import Endpoint, LoadSettings, OutputLengths, Target
from hfx_sgl.results.record import Status
from hfx_sgl.results.summarise import summarise
from hfx_sgl.results.summary import Summary

_HOST = "127.0.0.1"
_NUM_WARMUP_REQUESTS = 24
"""Enough work for a load report or two, from which the scheduler learns how fast servers are."""
_PATIENCE_S = 10.0
"""Answers are complete a little before servers count their requests as gone."""
_MAX_SEND_ERROR_S = 0.5
"""Servers on the client's own cores make it late; a promise here is a second and more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyRun:
    """What one policy made of the requests."""

    policy: str
    num_requests: int
    num_answered: int
    """Complete answers."""
    attainment: dict[str, float]
    """Share of each class whose promise was kept, of all that arrived."""
    summary: Summary
    errors: list[tuple[str, int]]
    problems: tuple[str, ...]
    """What is to be said of the measurement."""
    remains: dict[str, float]
    """What routers and servers held when all was over; empty: nothing."""


def compare(
    site: Site,
    workload: TwoClasses,
    policies: Sequence[str],
    *,
    say: Callable[[str], None],
) -> list[PolicyRun]:
    """Measure the policies one after the other on the same servers.

    Raises:
        LaunchError: a router did not start.
        LoadTestError: a request of the warm-up failed.
    """
    runs = []
    for index, policy in enumerate(policies):
        say(f"--policy {policy}")
        runs.append(_run(site, workload, policy, site.router_port + 2 * index, say))
    return runs


def _run(
    site: Site, workload: TwoClasses, policy: str, port: int, say: Callable[[str], None]
) -> PolicyRun:
    name = f"router-{policy}"
    flush_caches(site.servers)
    router = plan_router(
        site.servers,
        python=sys.executable,
        port=port,
        prometheus_port=port + 1,
        extra_args=("--policy", policy, "--log-level", "warn"),
        log_path=str(site.log_dir / f"{name}.log"),
        name=name,
    )
    site.cluster.add(router)
    try:
        return uvloop.run(_measure(site, workload, policy, router.url, port + 1, say))
    finally:
        site.cluster.stop(name)


async def _measure(
    site: Site,
    workload: TwoClasses,
    policy: str,
    url: str,
    prometheus_port: int,
    say: Callable[[str], None],
) -> PolicyRun:
    clock = WallClock()
    target = Target(base_url=url, endpoint=Endpoint.CHAT, model=prepare.TINY_MODEL_NAME)
    harvest = await run_load_test(
        LoadSettings(
            target=target,
            output_lengths=OutputLengths.IGNORE_EOS,
            max_send_error_s=_MAX_SEND_ERROR_S,
        ),
        workload.requests(),
        clock=clock,
        listeners=Listeners(on_record=_ignore, on_sample=_ignore, say=say),
        num_warmup_requests=_NUM_WARMUP_REQUESTS,
        sample_interval_s=None,
    )
    metrics_url = http_url(_HOST, prometheus_port)
    remains = await what_remains(site.servers, metrics_url, clock, _PATIENCE_S)
    return _result(policy, harvest, remains)


def _result(policy: str, harvest: Harvest, remains: dict[str, float]) -> PolicyRun:
    records = list(harvest.records.values())
    of_class: dict[str, list[bool]] = {}
    for record in records:
        of_class.setdefault(record.class_name, []).append(record.is_attained)
    return PolicyRun(
        policy=policy,
        num_requests=len(records),
        num_answered=sum(record.status is Status.OK for record in records),
        attainment={name: sum(kept) / len(kept) for name, kept in sorted(of_class.items())},
        summary=summarise(records, itls_s=harvest.itls_s),
        errors=harvest.most_frequent_errors(),
        problems=harvest.verdict.problems,
        remains=remains,
    )


def _ignore(*_: object) -> None:
    """Take what nobody asked for."""
