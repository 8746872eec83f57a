"""Fairness where it decides: whom to keep on time when not all can be."""

from collections.abc import Iterator

import pytest
from support.played_cluster import PlayedCluster
from support.scheduling import dispatched, plain_scheduler, request

from hfx_sgl.policy.scheduler.config import OnInfeasible, SchedulerConfig
from hfx_sgl.policy.scheduler.facts import Rejection, RequestFacts
from hfx_sgl.policy.scheduler.scheduler import Scheduler
from hfx_sgl.types import Role

ONE = (("u0", Role.REGULAR),)
NUM_ROUNDS = 60


def rounds(by: str) -> Iterator[RequestFacts]:
    """Every two seconds a long prompt and two short ones, of which two can be on time.

    There is time left for who was given up before the next ones come.
    """
    for n in range(NUM_ROUNDS):
        for name, num_tokens in (("long", 600), ("short", 300), ("other", 300)):
            group = "long" if name == "long" else "short"
            yield request(
                f"{name}{n}",
                num_tokens,
                at_s=2.0 * n,
                ttft_s=0.95,
                class_name=group if by == "class" else "chat",
                tenant=group if by == "tenant" else "",
            )


def num_on_time(by: str, fairness: float) -> tuple[int, int]:
    """Return how many long ones and how many others were on time."""
    config = SchedulerConfig(fairness=fairness, demoted_share=0.0)
    cluster = PlayedCluster(plain_scheduler(ONE, config))
    cluster.run(rounds(by), until_s=2.0 * NUM_ROUNDS)
    on_time = [dispatch.request_id for _, dispatch in cluster.sent if dispatch.is_on_time]
    num_long = sum(request_id.startswith("long") for request_id in on_time)
    return num_long, len(on_time) - num_long


@pytest.mark.parametrize("by", ["class", "tenant"])
def test_who_fell_behind_is_kept_where_it_was_given_up_before(by: str) -> None:
    assert num_on_time(by, 0.0) == (0, 2 * NUM_ROUNDS)
    num_long, num_others = num_on_time(by, 0.9)
    assert NUM_ROUNDS // 10 < num_long < NUM_ROUNDS
    # Each takes the place of one of the others, and no more than that is lost.
    assert num_others == 2 * NUM_ROUNDS - num_long


def test_fairness_is_between_groups_and_not_within_one() -> None:
    assert num_on_time("nothing", 0.9) == (0, 2 * NUM_ROUNDS)


def test_who_leaves_before_it_was_sent_late_was_given_up_as_well() -> None:
    config = SchedulerConfig(fairness=0.9, demoted_share=0.0)
    scheduler = plain_scheduler(ONE, config)
    for n in range(40):
        at_s = 10.0 * n
        scheduler.arrive(request(f"busy{n}", 500, at_s=at_s, ttft_s=1.0))
        assert dispatched(scheduler, at_s)
        scheduler.arrive(request(f"long{n}", 400, at_s=at_s, ttft_s=0.43, class_name="long"))
        scheduler.arrive(request(f"other{n}", 100, at_s=at_s, ttft_s=2.0))
        assert [each.request_id for each in dispatched(scheduler, at_s + 0.49)] == [f"other{n}"]
        for name in ("busy", "long", "other"):
            scheduler.over(f"{name}{n}", at_s + 1.0, None)
    assert first_of_the_round(scheduler, 500.0) == "long"


def test_who_is_rejected_was_given_up_as_well() -> None:
    config = SchedulerConfig(fairness=0.9, on_infeasible=OnInfeasible.REJECT, give_up_share=0.0)
    scheduler = plain_scheduler(ONE, config)
    for n in range(40):
        at_s = 10.0 * n
        for name, num_tokens in (("long", 600), ("short", 300), ("other", 300)):
            scheduler.arrive(
                request(f"{name}{n}", num_tokens, at_s=at_s, ttft_s=0.95, class_name=name)
            )
        gone = set()
        for now_s in (at_s, at_s + 0.05):
            for action in scheduler.decide(now_s):
                if isinstance(action, Rejection):
                    gone.add(action.request_id)
        for name in ("long", "short", "other"):
            if f"{name}{n}" not in gone:
                scheduler.over(f"{name}{n}", at_s + 1.0, None)
        if f"long{n}" not in gone:
            return
    raise AssertionError("the long ones are given up for ever")


def first_of_the_round(scheduler: Scheduler, at_s: float) -> str:
    """Return who goes first of a long prompt and two short ones, of which two can be on time."""
    for name, num_tokens in (("long", 600), ("short", 300), ("other", 300)):
        scheduler.arrive(request(name, num_tokens, at_s=at_s, ttft_s=0.95, class_name=name))
    return dispatched(scheduler, at_s)[0].request_id
