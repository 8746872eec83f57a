"""How long those wait that can no longer be on time, while others still can."""

import pytest
from support.played_cluster import PlayedCluster
from support.scheduling import plain_scheduler, request

from hfx_sgl.policy.scheduler.config import SchedulerConfig
from hfx_sgl.types import Role

SHARE = 0.1


def waited_s(ttft_s: float) -> float:
    """Return when one of 0.2 s is sent among others of 0.1 s, ten a second, of which some wait."""
    scheduler = plain_scheduler((("u0", Role.REGULAR),), SchedulerConfig(demoted_share=SHARE))
    cluster = PlayedCluster(scheduler)
    others = [request(f"s{n}", 100, at_s=max(n - 3, 0) / 10, ttft_s=ttft_s) for n in range(1, 80)]
    cluster.run([request("late", 200, ttft_s=0.1), *others], until_s=7.0)
    return cluster.sent_at_s("late")


@pytest.mark.parametrize(
    ("ttft_s", "shares"),
    [(2.0, 1), (0.45, 2)],  # the others can wait for it, and cannot
)
def test_it_waits_twice_as_long_where_others_would_become_late(ttft_s: float, shares: int) -> None:
    assert waited_s(ttft_s) == pytest.approx(shares * 0.2 / SHARE, abs=0.3)
