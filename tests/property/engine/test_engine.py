import math
from dataclasses import replace
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.engine_books import Books
from support.engine_world import Stray, Visit, World
from support.linear_step_times import LinearStepTimes

from hfx_sgl.engine.events import Finished, FinishReason, FirstToken
from hfx_sgl.engine.request import EngineRequest
from hfx_sgl.engine.spec import EngineSpec
from hfx_sgl.engine.step_times.times import PrefillPart
from hfx_sgl.prompt import Prompt
from hfx_sgl.types import Role

TICK_S = 1 / 64
PAIR = (Role.PREFILL, Role.DECODE)
SETUPS = [(Role.REGULAR,), (Role.PREFILL,), (Role.DECODE,), PAIR]


TIGHT_SPEC = EngineSpec(
    kv_capacity_tokens=160,
    max_context_tokens=1000,
    kv_bytes_per_token=16,
    page_tokens=4,
    max_running_requests=4,
    chunked_prefill_tokens=16,
    num_reserved_decode_tokens=4,
    host_overhead_s=1 / 256,
    host_overhead_per_request_s=1 / 4096,
    handoff_bytes_per_s=4096.0,
)


@st.composite
def specs(draw: st.DrawFn, role: Role) -> EngineSpec:
    page_tokens = draw(st.sampled_from([1, 1, 4, 16]))
    max_prefill_tokens = draw(st.sampled_from([16, 40, 500]))
    return EngineSpec(
        role=role,
        kv_capacity_tokens=draw(st.integers(60, 300)),
        max_context_tokens=draw(st.sampled_from([80, 120, 1000])),
        kv_bytes_per_token=draw(st.sampled_from([1, 16, 256])),
        page_tokens=page_tokens,
        max_running_requests=draw(st.integers(1, 12)),
        max_queued_requests=draw(st.sampled_from([None, None, 1, 3])),
        max_prefill_tokens=max_prefill_tokens,
        chunked_prefill_tokens=draw(st.sampled_from([None, 16, 32, 64])),
        has_mixed_chunk=draw(st.booleans()),
        has_prefix_cache=draw(st.booleans()),
        has_priority=draw(st.booleans()),
        has_preemption=draw(st.booleans()),
        preemption_threshold=draw(st.sampled_from([0, 2])),
        schedule_conservativeness=draw(st.sampled_from([0.0, 0.0, 0.25, 1.0])),
        num_reserved_decode_tokens=draw(st.sampled_from([0, 5, 16])),
        host_overhead_s=1 / 256,
        host_overhead_per_request_s=1 / 4096,
        handoff_bytes_per_s=draw(st.sampled_from([256.0, 2.0**20])),
        handoff_latency_s=draw(st.sampled_from([0.0, 1 / 32])),
    )


@st.composite
def visits(draw: st.DrawFn) -> list[Visit]:
    """A crowd; drawn in one go, as hypothesis by itself prefers few and small requests."""
    rng = Random(draw(st.integers(0, 2**32)))
    last_tick = draw(st.sampled_from([0, 20, 100]))
    most_outputs = draw(st.sampled_from([5, 40, 90]))
    return [
        make_visit(rng, index, last_tick, most_outputs) for index in range(draw(st.integers(1, 24)))
    ]


def make_visit(rng: Random, index: int, last_tick: int, most_outputs: int) -> Visit:
    at_s = rng.randint(0, last_tick) * TICK_S
    path = [(rng.randint(0, 2), rng.choice([1, 3, 16, 20, 60])) for _ in range(rng.randint(1, 4))]
    num_output_tokens = rng.choice([1, 2, *[rng.randint(1, most_outputs)] * 4])
    return Visit(
        at_s=at_s,
        request=EngineRequest(
            # An id may come back, be it that it is here still.
            request_id=f"r{rng.randint(0, index) if rng.random() < 0.1 else index}",
            prompt=Prompt(tuple(s for s, _ in path), tuple(n for _, n in path)),
            num_output_tokens=num_output_tokens,
            max_new_tokens=num_output_tokens + rng.choice([0, 0, 7, 60]),
            priority=rng.randint(0, 5),
        ),
        abort_at_s=at_s + rng.choice([*[math.inf] * 8, 0.0, TICK_S, 3 * rng.random()]),
        peer_delay_s=rng.choice([0.0, TICK_S, 0.5]),
        peer_fails=rng.random() < 0.1,
    )


Scene = tuple[list[EngineSpec], list[Visit]]


@st.composite
def scenes(draw: st.DrawFn) -> Scene:
    setup = draw(st.sampled_from(SETUPS))
    return [draw(specs(role)) for role in setup], draw(visits())


@st.composite
def strays(draw: st.DrawFn) -> Stray:
    return Stray(
        at_s=draw(st.integers(0, 160)) * TICK_S,
        call=draw(st.sampled_from(["kv_granted", "kv_arrived", "abort", "handoff_failed"])),
        request_id=f"r{draw(st.integers(0, 24))}",
    )


@settings(max_examples=600, deadline=None)
@given(scene=scenes(), calls=st.lists(strays(), max_size=4))
def test_each_request_ends_once_and_nothing_is_left(scene: Scene, calls: list[Stray]) -> None:
    World(*scene, strays=calls).run()


@settings(max_examples=400, deadline=None)
@given(scene=scenes(), looks=st.lists(st.floats(0, 20), max_size=5))
def test_it_does_not_matter_when_one_looks(scene: Scene, looks: list[float]) -> None:
    calls = [Stray(at_s=at_s, call="advance", request_id="") for at_s in looks]
    by_event, by_step = World(*scene), World(*scene, pace="step", strays=calls)
    by_event.run()
    by_step.run()
    for role, books in by_event.books.items():
        assert by_step.books[role].order == books.order


@settings(max_examples=100, deadline=None)
@given(spec=specs(Role.REGULAR), drawn=visits())
def test_much_time_may_pass_in_one_call(spec: EngineSpec, drawn: list[Visit]) -> None:
    by_event, by_input = World([spec], drawn), World([spec], drawn, pace="input")
    by_event.run()
    by_input.run()
    assert by_input.books[Role.REGULAR].order == by_event.books[Role.REGULAR].order


@settings(max_examples=400, deadline=None)
@given(scene=scenes())
def test_without_trouble_every_request_is_completed(scene: Scene) -> None:
    # With a limit, a higher priority drives others out of the queue.
    unlimited = [replace(spec, max_queued_requests=None) for spec in scene[0]]
    peaceful = [replace(visit, abort_at_s=math.inf, peer_fails=False) for visit in scene[1]]
    world = World(unlimited, peaceful)
    world.run()
    refused = {request_id for books in world.books.values() for request_id in books.refused}
    for books in world.books.values():
        assert all(
            end.reason in (FinishReason.STOP, FinishReason.LENGTH)
            for request, end in books.ends
            if request.request_id not in refused
        )
        check_counters(books, world.now_s)


@settings(max_examples=200, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    kv_capacity_tokens=st.integers(100, 220),
    page_tokens=st.sampled_from([1, 2, 4]),
)
def test_memory_may_run_out_between_two_chunks(
    seed: int, kv_capacity_tokens: int, page_tokens: int
) -> None:
    rng = Random(seed)
    spec = replace(
        TIGHT_SPEC,
        kv_capacity_tokens=kv_capacity_tokens,
        page_tokens=page_tokens,
        max_running_requests=20,
        has_mixed_chunk=True,
        schedule_conservativeness=0.0,
    )
    drawn = []
    for index in range(30):
        path = [(rng.randint(0, 9), rng.choice([3, 16, 40])) for _ in range(rng.randint(1, 3))]
        num_output_tokens = rng.choice([1, 1, 2, 50, 80])
        request = EngineRequest(
            request_id=f"r{index}",
            prompt=Prompt(tuple(s for s, _ in path), tuple(n for _, n in path)),
            num_output_tokens=num_output_tokens,
            max_new_tokens=num_output_tokens,
        )
        drawn.append(Visit(at_s=rng.randint(0, 60) * TICK_S, request=request))
    World([spec], drawn).run()


def check_counters(books: Books, now_s: float) -> None:
    """Compare what an engine says that it has done with what its requests have seen."""
    ends = [end for _, end in books.ends]
    num_prompt_tokens = sum(request.prompt.num_tokens for request, _ in books.ends)
    num_cached_tokens = sum(end.num_cached_tokens for end in ends)
    load = books.engine.load(now_s)
    assert load.num_finished == len(ends)
    assert load.num_prompt_tokens == num_prompt_tokens
    assert load.num_cached_tokens == num_cached_tokens
    assert load.num_generated_tokens == sum(end.num_output_tokens for end in ends)
    assert load.num_retractions == sum(end.num_retractions for end in ends)
    is_plain = not load.num_retractions and not books.spec.has_mixed_chunk
    if is_plain and books.role is not Role.DECODE and not books.num_failed:
        assert load.total_prefill_uncached_tokens == num_prompt_tokens - num_cached_tokens
        assert load.decode_moments[5] == sum(end.num_output_tokens - 1 for end in ends)


@settings(max_examples=100, deadline=None)
@given(
    spec=specs(Role.REGULAR),
    num_tokens=st.integers(1, 40),
    num_output_tokens=st.integers(1, 10),
)
def test_alone_it_takes_what_the_table_says(
    spec: EngineSpec, num_tokens: int, num_output_tokens: int
) -> None:
    spec = replace(spec, kv_capacity_tokens=200, max_context_tokens=100)
    request = EngineRequest(
        request_id="r",
        prompt=Prompt((1,), (num_tokens,)),
        num_output_tokens=num_output_tokens,
        max_new_tokens=num_output_tokens,
    )
    world = World([spec], [Visit(at_s=1.0, request=request)])
    world.run()
    table = LinearStepTimes(spec)
    overhead_s = spec.host_overhead_s + spec.host_overhead_per_request_s
    chunk_tokens = spec.chunked_prefill_tokens or num_tokens
    first_s = 1.0
    for begin in range(0, num_tokens, chunk_tokens):
        num_new = min(chunk_tokens, num_tokens - begin)
        first_s += table.prefill_s([PrefillPart(num_new, begin)]) + overhead_s
    end_s = first_s
    if num_output_tokens > 1:
        num_steps = num_output_tokens - 1
        end_s += table.decode_steps_s(1, num_tokens, num_steps) + num_steps * overhead_s
    assert [type(e) for e in world.books[Role.REGULAR].order] == [FirstToken, Finished]
    assert [e.at_s for e in world.books[Role.REGULAR].order] == [first_s, end_s]


@pytest.mark.parametrize("setup", SETUPS)
@pytest.mark.parametrize("aborted", range(4))
def test_an_abort_at_any_instant_leaks_nothing(setup: tuple[Role, ...], aborted: int) -> None:
    visitors = [
        Visit(
            at_s=index * TICK_S,
            request=EngineRequest(
                request_id=f"r{index}",
                prompt=Prompt((1, 10 + index), (20, 10 + 7 * index)),
                num_output_tokens=20,
                max_new_tokens=30,
            ),
            peer_delay_s=TICK_S,
        )
        for index in range(4)
    ]
    setup_specs = [replace(TIGHT_SPEC, role=role) for role in setup]
    world = World(setup_specs, visitors, pace="step")
    world.run()
    come_at_s = visitors[aborted].at_s
    instants = [at_s for at_s in world.instants if at_s >= come_at_s]
    assert len(instants) > 10
    for before_s, after_s in pairwise(instants):
        for at_s in (before_s, (before_s + after_s) / 2):
            scene = list(visitors)
            scene[aborted] = replace(scene[aborted], abort_at_s=at_s)
            World(setup_specs, scene).run()
