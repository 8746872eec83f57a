"""The bound against the best of all schedules of tiny instances, and where it is known exactly."""

from collections.abc import Iterator, Sequence
from itertools import permutations, product

import numpy as np
import pytest
from clairvoyant.bound import upper_bound
from clairvoyant.prefixes import exclusive_tokens, shared_parts
from hypothesis import given, settings
from hypothesis import strategies as st
from support.simulated import linear_profile, planned

from hfx_sgl.engine.step_times.times import PrefillPart
from hfx_sgl.prompt import Prompt
from hfx_sgl.sim.spec import SimSpec
from hfx_sgl.slo import Slo
from hfx_sgl.types import Role
from hfx_sgl.workload.planned import PlannedRequest

PROFILE = linear_profile()
ENGINE = PROFILE.make_spec(Role.REGULAR)


def _workers(num: int) -> SimSpec:
    """Unified workers behind no network, with engines that are quickly looked at."""
    engine = {"max_running_requests": 16, "chunked_prefill_tokens": None}
    return SimSpec(num_workers=num, network_s=0.0, engine=engine)


def _splits(order: Sequence[int]) -> Iterator[list[list[int]]]:
    """Yield every way to cut an order into steps."""
    for cuts in product((False, True), repeat=len(order) - 1):
        steps = [[order[0]]]
        for is_cut, index in zip(cuts, order[1:], strict=True):
            if is_cut:
                steps.append([index])
            else:
                steps[-1].append(index)
        yield steps


def _num_on_time(requests: Sequence[PlannedRequest], steps: list[list[int]]) -> int:
    """Return how many are on time on one worker that computes these steps as early as it can."""
    now_s = 0.0
    num_on_time = 0
    cached: set[int] = set()
    for step in steps:
        now_s = max(now_s, *(requests[i].at_s for i in step))
        parts = []
        for index in step:
            prompt = requests[index].prompt
            has_prefix = len(prompt.segment_ids) > 1 and prompt.segment_ids[0] in cached
            num_hit = prompt.segment_tokens[0] if has_prefix else 0
            parts.append(PrefillPart(prompt.num_tokens - num_hit, num_hit))
        now_s += PROFILE.step_times.prefill_s(parts) + ENGINE.host_overhead_s
        now_s += len(step) * ENGINE.host_overhead_per_request_s
        cached |= {requests[i].prompt.segment_ids[0] for i in step}
        num_on_time += sum(now_s <= requests[i].at_s + requests[i].slo.ttft_s for i in step)
    return num_on_time


def _best(requests: Sequence[PlannedRequest], num_workers: int) -> int:
    """Return the most that are on time over every assignment, order and batching.

    A request may be left out; it is then on no worker.
    """
    best = 0
    for places in product(range(num_workers + 1), repeat=len(requests)):
        num_here = 0
        for worker in range(num_workers):
            mine = [i for i, place in enumerate(places) if place == worker]
            if mine:
                num_here += max(
                    _num_on_time(requests, steps)
                    for order in permutations(mine)
                    for steps in _splits(order)
                )
        best = max(best, num_here)
    return best


tiny_requests = st.lists(
    st.tuples(
        st.floats(0.0, 0.2),
        st.integers(50, 4_000),
        st.floats(0.01, 0.15),
        st.sampled_from((None, 7, 8)),
    ),
    min_size=1,
    max_size=4,
)


@settings(max_examples=30, deadline=None)
@given(tiny_requests, st.integers(1, 2))
def test_no_schedule_keeps_more(
    drawn: list[tuple[float, int, float, int | None]], num_workers: int
) -> None:
    requests = [
        planned(i, at_s, prompt_tokens=size, output_tokens=1, slo=Slo(ttft_s=ttft_s), prefix=prefix)
        for i, (at_s, size, ttft_s, prefix) in enumerate(sorted(drawn, key=lambda each: each[0]))
    ]
    bound = upper_bound(_workers(num_workers), requests, PROFILE)
    assert bound.num_kept >= _best(requests, num_workers)


def _alike(num: int, *, size: int, slo: Slo, output: int = 1) -> list[PlannedRequest]:
    return [planned(i, 0.0, prompt_tokens=size, output_tokens=output, slo=slo) for i in range(num)]


def test_what_does_not_fit_before_its_deadline_is_not_kept() -> None:
    # 20 us a token: a second is enough for 50 prompts of 1,000 tokens.
    requests = _alike(100, size=1_000, slo=Slo(ttft_s=1.0))
    bound = upper_bound(_workers(1), requests, PROFILE)
    assert 45 <= bound.num_kept <= 51
    assert bound.is_final


def test_more_workers_keep_more() -> None:
    requests = _alike(100, size=1_000, slo=Slo(ttft_s=0.6))
    kept = [upper_bound(_workers(num), requests, PROFILE).num_kept for num in (1, 2, 3)]
    assert kept[0] < kept[1] < kept[2] < 100


def test_a_prompt_that_takes_longer_than_it_may_is_never_kept() -> None:
    requests = [*_alike(1, size=9_000, slo=Slo(ttft_s=0.1)), planned(1, 50.0)]
    assert upper_bound(SimSpec(num_workers=4), requests, PROFILE).num_kept == 1


def test_a_shared_prefix_is_computed_once() -> None:
    def kept(prompts: list[Prompt]) -> int:
        requests = [
            PlannedRequest(
                request_id=f"r{i}", class_name="doc", at_s=0.0, prompt=prompt,
                num_output_tokens=1, max_output_tokens=2, slo=Slo(ttft_s=1.0),
            )
            for i, prompt in enumerate(prompts)
        ]  # fmt: skip
        return upper_bound(_workers(1), requests, PROFILE).num_kept

    apart = [Prompt((i, 100 + i), (8_000, 100)) for i in range(20)]
    shared = [Prompt((1, 100 + i), (8_000, 100)) for i in range(20)]
    assert kept(apart) <= 7
    assert kept(shared) == 20


def test_what_was_not_kept_in_the_cache_is_computed_again() -> None:
    """Two rounds of documents that are larger than the cache, far apart."""
    prompts = [Prompt((i, 1_000 + i), (20_000, 10)) for i in range(40)]
    again = [Prompt((i, 2_000 + i), (20_000, 10)) for i in range(40)]
    requests = [
        PlannedRequest(
            request_id=f"r{i}", class_name="doc", at_s=0.0 if i < 40 else 100.0, prompt=prompt,
            num_output_tokens=1, max_output_tokens=2, slo=Slo(ttft_s=20.0),
        )
        for i, prompt in enumerate((*prompts, *again))
    ]  # fmt: skip
    small = SimSpec(num_workers=1, engine={"chunked_prefill_tokens": None})
    large = SimSpec(
        num_workers=1, engine={"kv_capacity_tokens": 10**6, "chunked_prefill_tokens": None}
    )
    # 0.4 s for a document, and room for 10 of 40: 80 take 32 s less 4 s, 20 s twice are there.
    assert upper_bound(small, requests, PROFILE).num_kept == 80
    tight = [
        PlannedRequest(
            request_id=each.request_id, class_name="doc", at_s=each.at_s, prompt=each.prompt,
            num_output_tokens=1, max_output_tokens=2,
            slo=Slo(ttft_s=20.0 if each.at_s == 0.0 else 4.0),
        )
        for each in requests
    ]  # fmt: skip
    # In the second round 10 are there and 10 can be computed in 4 s.
    assert 58 <= upper_bound(small, tight, PROFILE).num_kept <= 62
    assert upper_bound(large, tight, PROFILE).num_kept == 80


def test_decoding_takes_its_share_of_a_unified_worker() -> None:
    slo = Slo(ttft_s=1.0, tpot_s=0.001)
    requests = _alike(30, size=1_000, slo=slo, output=200)
    with_output = upper_bound(_workers(1), requests, PROFILE).num_kept
    alone = upper_bound(_workers(1), _alike(30, size=1_000, slo=slo), PROFILE).num_kept
    assert with_output < alone == 30


def test_decode_workers_without_room_keep_less() -> None:
    """Forty prompts at once that four fit of, and that are all to be begun within 0.9 s."""
    requests = _alike(40, size=1_000, slo=Slo(ttft_s=0.9, tpot_s=0.05), output=200)
    kept = [
        upper_bound(
            SimSpec(num_prefill=1, num_decode=1, engine={"kv_capacity_tokens": capacity}),
            requests,
            PROFILE,
        ).num_kept
        for capacity in (6_500, 200_000)
    ]
    assert kept[0] < 20
    assert kept[1] == 40


def test_parts_are_shared_as_far_as_all_before_them_is() -> None:
    prompts = [
        Prompt((1, 2, 3), (10, 20, 30)),
        Prompt((1, 2, 4), (10, 20, 40)),
        Prompt((1, 5), (10, 50)),
        Prompt((6, 2), (60, 20)),
    ]
    shared = shared_parts(prompts)
    assert sorted((part.num_tokens, part.members) for part in shared.parts) == [
        (10, [0, 1, 2]),
        (20, [0, 1]),
    ]
    assert shared.num_own_tokens == (30, 40, 50, 80)


@pytest.mark.parametrize("num_alike", [400, 401])
def test_what_very_many_share_is_taken_to_be_cached(num_alike: int) -> None:
    shared = shared_parts([Prompt((1, 10 + i), (100, 5)) for i in range(num_alike)])
    assert len(shared.parts) == (num_alike == 400)
    assert set(shared.num_own_tokens) == {5}


def test_room_for_a_shared_part_is_divided_among_those_under_way_together() -> None:
    shared = shared_parts([Prompt((1, 10 + i), (60, 5)) for i in range(4)])
    begins_s = np.array([0.0, 1.0, 2.0, 9.0])
    ends_s = np.array([1.5, 3.0, 4.0, 10.0])
    # The first and the second overlap, the second and the third, and never all three.
    assert list(exclusive_tokens(shared, begins_s, ends_s)) == [35.0, 35.0, 35.0, 65.0]


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=2, max_size=7))
def test_who_is_under_way_at_an_instant_takes_no_more_than_the_part(
    windows: list[tuple[int, int]],
) -> None:
    shared = shared_parts([Prompt((1, 10 + i), (60, 5)) for i in range(len(windows))])
    begins_s = np.array([float(begin) for begin, _ in windows])
    ends_s = begins_s + np.array([float(length) for _, length in windows])
    tokens = exclusive_tokens(shared, begins_s, ends_s)
    for at_s in range(20):
        here = (begins_s <= at_s) & (at_s <= ends_s)
        assert tokens[here].sum() <= 60 + 5 * here.sum() + 1e-9
