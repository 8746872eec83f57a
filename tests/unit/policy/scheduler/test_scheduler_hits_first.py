"""Prompts whose prefix saves much go before more urgent ones that can bear it."""

import pytest
from support.scheduling import MARGIN_S, dispatched, plain_scheduler, request

from hfx_sgl.policy.scheduler.config import SchedulerConfig
from hfx_sgl.policy.scheduler.decision import Reason
from hfx_sgl.policy.scheduler.facts import RequestFacts
from hfx_sgl.policy.scheduler.scheduler import Scheduler
from hfx_sgl.types import Role

SHARED = range(50)
"""500 tokens."""


def warm(config: SchedulerConfig | None = None) -> Scheduler:
    """One idle worker that has the prefix at second 1."""
    scheduler = plain_scheduler((("u0", Role.REGULAR),), config)
    scheduler.arrive(request("before", 510, block_digests=SHARED))
    dispatched(scheduler, 0.0)
    scheduler.prefill_over("before", 0.6)
    scheduler.over("before", 0.7, None)
    return scheduler


def hit(request_id: str, num_new_tokens: int, *, ttft_s: float = 9.0) -> RequestFacts:
    """A prompt of which the worker has 500 tokens."""
    return request(request_id, 500 + num_new_tokens, at_s=1.0, ttft_s=ttft_s, block_digests=SHARED)


def cold(
    request_id: str, num_tokens: int, *, spare_s: float, before_s: float = 0.0
) -> RequestFacts:
    """A prompt that is on time by `spare_s` after what takes `before_s`."""
    ttft_s = before_s + num_tokens / 1000 + MARGIN_S + spare_s
    return request(request_id, num_tokens, at_s=1.0, ttft_s=ttft_s)


def order(scheduler: Scheduler, *arrivals: RequestFacts) -> list[str]:
    """Return the order in which they are sent, one being computed before the next is chosen."""
    for facts in arrivals:
        scheduler.arrive(facts)
    now_s = 1.0
    sent: list[str] = []
    while len(sent) < len(arrivals):
        for dispatch in dispatched(scheduler, now_s):
            sent.append(dispatch.request_id)
            now_s += dispatch.predicted_prefill_s
            scheduler.prefill_over(dispatch.request_id, now_s)
        assert now_s < 10.0
    return sent


@pytest.mark.parametrize(("spare_s", "is_first"), [(0.12, True), (0.08, False)])
def test_a_hit_goes_first_only_if_nobody_kept_becomes_late(spare_s: float, is_first: bool) -> None:
    sent = order(warm(), cold("urgent", 300, spare_s=spare_s), hit("hit", 100))
    assert sent == (["hit", "urgent"] if is_first else ["urgent", "hit"])


@pytest.mark.parametrize(("spare_s", "is_first"), [(0.12, True), (0.08, False)])
def test_the_last_of_those_kept_counts_as_well(spare_s: float, is_first: bool) -> None:
    sent = order(
        warm(),
        cold("first", 300, spare_s=0.2),
        cold("second", 300, before_s=0.3, spare_s=spare_s),
        hit("hit", 100),
    )
    assert (sent[0] == "hit") is is_first


def test_who_is_given_up_need_not_bear_it() -> None:
    sent = order(
        warm(),
        cold("long", 900, spare_s=0.01),
        cold("urgent", 300, spare_s=0.65),
        hit("hit", 100, ttft_s=1.5),
    )
    # Two can be on time; "long" is not one of them.
    assert sent == ["hit", "urgent", "long"]


@pytest.mark.parametrize(
    ("num_new_tokens", "hit_gain", "is_first"),
    [(240, 2.0, True), (260, 2.0, False), (260, 1.0, True), (100, 6.0, False)],
)
def test_it_has_to_save_a_multiple_of_what_it_takes(
    num_new_tokens: int, hit_gain: float, is_first: bool
) -> None:
    scheduler = warm(SchedulerConfig(hit_gain=hit_gain))
    sent = order(scheduler, cold("urgent", 300, spare_s=1.0), hit("hit", num_new_tokens))
    assert (sent[0] == "hit") is is_first


def test_of_several_the_oldest_goes_first() -> None:
    sent = order(
        warm(),
        hit("older", 50, ttft_s=9.0),
        hit("newer", 50, ttft_s=8.0),
        cold("urgent", 300, spare_s=1.0),
    )
    assert sent == ["older", "newer", "urgent"]


def test_a_hit_elsewhere_does_not_go_first() -> None:
    scheduler = plain_scheduler((("u0", Role.REGULAR), ("u1", Role.REGULAR)))
    scheduler.arrive(request("before", 1000, block_digests=SHARED))
    (dispatch,) = dispatched(scheduler, 0.0)
    assert dispatch.worker_id == "u0"
    scheduler.arrive(cold("urgent", 300, spare_s=5.0))
    scheduler.arrive(hit("hit", 100))
    # The worker that has the prefix is busy: the other one has nothing to save.
    (dispatch,) = dispatched(scheduler, 0.5)
    assert (dispatch.request_id, dispatch.worker_id) == ("urgent", "u1")


def test_says_that_it_went_for_its_prefix() -> None:
    scheduler = warm()
    scheduler.arrive(cold("urgent", 300, spare_s=1.0))
    scheduler.arrive(hit("hit", 100))
    (dispatch,) = dispatched(scheduler, 1.0)
    assert (dispatch.request_id, dispatch.num_hit_tokens) == ("hit", 500)
    assert dispatch.decision.reason is Reason.PREFIX_HOME
