import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hfx_sgl.policy.fakes import FakeRequest, make_workers
from hfx_sgl.policy.selection.catalog import (
    PREFILL_POLICY_NAMES,
    AssignmentMode,
    SelectionConfig,
    make_policy,
)
from hfx_sgl.policy.selection.least_load import LeastLoad
from hfx_sgl.policy.selection.round_robin import RoundRobin

LOADS = st.lists(st.integers(0, 200), min_size=5, max_size=5)
CALLS = st.lists(
    st.tuples(
        LOADS,
        st.sets(st.integers(0, 4), min_size=1),
        st.integers(0, 900),
        st.none() | st.sampled_from("abc"),
        st.sampled_from([0.0, 0.5, 20.0]),
        st.none() | st.integers(0, 4),
    ),
    max_size=25,
)


@pytest.mark.parametrize("name", PREFILL_POLICY_NAMES)
@settings(max_examples=30, deadline=None)
@given(calls=CALLS, mode=st.sampled_from(AssignmentMode), seed=st.integers(0, 9))
def test_the_answer_is_always_a_candidate(
    name: str,
    calls: list[tuple[list[int], set[int], int, str | None, float, int | None]],
    mode: AssignmentMode,
    seed: int,
) -> None:
    config = SelectionConfig(assignment_mode=mode, max_tree_chars=1024, max_idle_s=15.0)
    policy = make_policy(name, config, random.Random(seed))
    workers = make_workers(0, 0, 0, 0, 0)
    now_s = 0.0
    for loads, usable, length, key, passed_s, leaving in calls:
        for worker, load in zip(workers, loads, strict=True):
            worker.num_inflight = load
        candidates = tuple(workers[i] for i in sorted(usable))
        now_s += passed_s
        worker = policy.select(FakeRequest(bytes(length), key), candidates, now_s)
        assert any(worker is candidate for candidate in candidates)
        if leaving is not None:
            policy.forget(workers[leaving].worker_id)


@settings(max_examples=50, deadline=None)
@given(num=st.integers(1, 9), skipped=st.integers(0, 20))
def test_round_robin_covers_all_in_every_round(num: int, skipped: int) -> None:
    policy, workers = RoundRobin(), make_workers(*[0] * num)
    for _ in range(skipped):
        policy.select(FakeRequest(), workers, 0.0)
    chosen = [policy.select(FakeRequest(), workers, 0.0).worker_id for _ in range(num)]
    assert sorted(chosen) == sorted(worker.worker_id for worker in workers)


@settings(max_examples=50, deadline=None)
@given(loads=st.lists(st.integers(0, 2), min_size=1, max_size=9), skipped=st.integers(0, 20))
def test_least_load_covers_all_equals_in_every_round(loads: list[int], skipped: int) -> None:
    policy, workers = LeastLoad(), make_workers(*loads)
    for _ in range(skipped):
        policy.select(FakeRequest(), workers, 0.0)
    lowest = [worker.worker_id for worker in workers if worker.num_inflight == min(loads)]
    chosen = [policy.select(FakeRequest(), workers, 0.0).worker_id for _ in lowest]
    assert sorted(chosen) == sorted(lowest)
