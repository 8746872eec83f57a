import math

import pytest
from support.engine_rig import EngineRig, make_spec

from hfx_sgl.engine.events import Finished, FinishReason, FirstToken, KvAllocated, KvSent
from hfx_sgl.prompt import Prompt
from hfx_sgl.types import Role

BYTES_PER_TOKEN = 16
LINK_BYTES_PER_S = 2.0**14
LATENCY_S = 1 / 32


def prefill_rig(**settings: object) -> EngineRig:
    return EngineRig(make_spec(Role.PREFILL, kv_bytes_per_token=BYTES_PER_TOKEN, **settings))


def decode_rig(**settings: object) -> EngineRig:
    return EngineRig(make_spec(Role.DECODE, **settings))


def grant(rig: EngineRig, *names: str) -> None:
    for name in names:
        rig.engine.kv_granted(name, rig.now_s)


def arrive(rig: EngineRig, *names: str) -> None:
    for name in names:
        rig.engine.kv_arrived(name, rig.now_s)


def transfer_s(num_tokens: int) -> float:
    return num_tokens * BYTES_PER_TOKEN / LINK_BYTES_PER_S


# --- the prefill side ---


def test_a_prompt_is_computed_once_there_is_room_for_it_elsewhere() -> None:
    rig = prefill_rig()
    rig.submit("a", 64, 20)
    rig.run(1.0)
    assert rig.events == []
    assert rig.engine.load(1.0).prefill_bootstrap_queue_reqs == 1
    grant(rig, "a")
    rig.run()
    first_s = 1.0 + rig.prefill_s((64, 0))
    assert [type(event) for event in rig.events] == [FirstToken, KvSent, Finished]
    assert rig.first_s("a") == first_s
    assert rig.sent_s("a") == rig.finished("a").at_s == first_s + transfer_s(64) + LATENCY_S
    end = rig.finished("a")
    assert (end.reason, end.num_output_tokens, end.queue_s) == (FinishReason.LENGTH, 1, 1.0)


def test_memory_is_held_until_it_is_sent() -> None:
    rig = prefill_rig()
    rig.submit("a", 64, 20)
    grant(rig, "a")
    rig.run(rig.prefill_s((64, 0)))
    load = rig.engine.load(rig.now_s)
    assert (load.num_used_tokens, load.prefill_inflight_queue_reqs) == (64, 1)
    assert load.num_running_reqs == 0
    rig.run()
    load = rig.engine.load(rig.now_s)
    assert (load.num_used_tokens, load.prefill_inflight_queue_reqs) == (0, 0)
    assert load.kv_transfer_latency_ms == pytest.approx((transfer_s(64) + LATENCY_S) * 1e3)
    assert load.kv_transfer_speed_gb_s == pytest.approx(
        64 * BYTES_PER_TOKEN / 2**30 / (transfer_s(64) + LATENCY_S)
    )


def test_chunks_are_sent_as_they_are_computed() -> None:
    rig = prefill_rig(chunked_prefill_tokens=64)
    rig.submit("a", 100, 20)
    grant(rig, "a")
    rig.run()
    # The first chunk is on the other side long before the second is computed.
    first_s = rig.prefill_s((64, 0)) + rig.prefill_s((36, 64))
    assert rig.first_s("a") == first_s
    assert rig.prefill_s((36, 64)) > transfer_s(64)
    assert rig.sent_s("a") == first_s + transfer_s(36) + LATENCY_S


def test_a_cached_prefix_is_sent_too() -> None:
    rig = prefill_rig()
    for name in "ab":
        rig.submit(name, Prompt((1, 2), (64, 32)), 20)
        grant(rig, name)
        rig.run()
    assert rig.finished("b").num_cached_tokens == 95
    assert rig.sent_s("b") == rig.first_s("b") + transfer_s(96) + LATENCY_S


def test_transfers_share_the_link() -> None:
    rig = prefill_rig()
    for name in "ab":
        rig.submit(name, 64, 20)
    grant(rig, "a", "b")
    rig.run()
    first_s = rig.prefill_s((64, 0), (64, 0))
    assert rig.sent_s("a") == rig.sent_s("b") == first_s + transfer_s(128) + LATENCY_S


def test_prompts_wait_while_memory_is_on_its_way() -> None:
    rig = prefill_rig(kv_capacity_tokens=150)
    for name in "ab":
        rig.submit(name, 100, 20)
    grant(rig, "a", "b")
    rig.run()
    assert rig.first_s("b") == rig.sent_s("a") + rig.prefill_s((100, 0))


def test_no_more_prompts_are_on_their_way_than_may_run() -> None:
    rig = prefill_rig(max_running_requests=1)
    for name in "ab":
        rig.submit(name, 10, 20)
    grant(rig, "a", "b")
    rig.run()
    assert rig.first_s("b") == rig.sent_s("a") + rig.prefill_s((10, 0))


# --- the decode side ---


def test_a_request_joins_when_its_memory_has_arrived() -> None:
    rig = decode_rig()
    rig.submit("a", 64, 4, at_s=1.0)
    rig.run(1.0)
    assert rig.allocated_s("a") == 1.0
    load = rig.engine.load(1.0)
    assert (load.num_used_tokens, load.decode_transfer_queue_reqs) == (64, 1)
    assert load.num_active_tokens == 0
    rig.run(2.0)
    arrive(rig, "a")
    rig.run()
    assert [type(event) for event in rig.events] == [KvAllocated, FirstToken, Finished]
    assert rig.first_s("a") == 2.0
    end = rig.finished("a")
    assert end.at_s == 2.0 + rig.decode_s(1, 64, 3)
    assert (end.num_output_tokens, end.queue_s, end.num_cached_tokens) == (4, 1.0, 0)


def test_with_one_token_it_is_over_at_once() -> None:
    rig = decode_rig()
    rig.submit("a", 64, 1)
    rig.run(1.0)
    arrive(rig, "a")
    rig.run()
    assert rig.first_s("a") == rig.finished("a").at_s == 1.0
    assert rig.num_used_tokens == 0


def test_room_is_given_and_requests_join_between_steps() -> None:
    rig = decode_rig()
    rig.submit("a", 64, 40)
    rig.run(0.0)
    arrive(rig, "a")
    rig.submit("b", 32, 4, at_s=rig.decode_s(1, 64, 5) + 1 / 1024)
    rig.run(rig.decode_s(1, 64, 8) + 1 / 1024)
    assert rig.allocated_s("b") == rig.decode_s(1, 64, 6)
    arrive(rig, "b")
    rig.run()
    joined_s = rig.decode_s(1, 64, 9)
    assert rig.first_s("b") == joined_s
    assert rig.finished("b").at_s == joined_s + rig.decode_s(2, 73 + 32, 3)


def test_room_is_kept_for_those_that_run() -> None:
    rig = decode_rig(kv_capacity_tokens=100, num_reserved_decode_tokens=10)
    rig.submit("a", 40, 5)
    rig.submit("b", 41, 5)
    rig.run(1.0)
    # 40 are reserved, 10 kept for the first: 50 are left, and the second wants 51.
    assert not rig.has(KvAllocated, "b")
    arrive(rig, "a")
    rig.run()
    assert rig.allocated_s("b") == rig.finished("a").at_s


def test_room_is_given_in_order() -> None:
    rig = decode_rig(kv_capacity_tokens=100, num_reserved_decode_tokens=10)
    for name, prompt in (("a", 40), ("b", 41), ("c", 5)):
        rig.submit(name, prompt, 5)
    rig.run(1.0)
    assert not rig.has(KvAllocated, "c")
    arrive(rig, "a")
    rig.run()
    assert rig.allocated_s("c") == rig.allocated_s("b")


@pytest.mark.parametrize(("prompt", "is_let_in"), [(30, True), (31, False)])
def test_the_longest_request_keeps_room_for_all_of_its_output(prompt: int, is_let_in: bool) -> None:
    rig = decode_rig(kv_capacity_tokens=200, num_reserved_decode_tokens=1)
    rig.submit("a", 20, 10, max_new_tokens=150)
    rig.run(0.0)
    arrive(rig, "a")
    rig.run(rig.decode_s(1, 20))
    rig.submit("b", prompt, 2)
    rig.run(rig.decode_s(1, 20, 2))
    # Of its 170 tokens it has 22, and the one to come: 200 - 22 - 147 are left.
    assert rig.has(KvAllocated, "b") is is_let_in


def test_a_place_in_the_batch_is_waited_for() -> None:
    rig = decode_rig(max_running_requests=1)
    for name in "ab":
        rig.submit(name, 20, 5)
    rig.run(0.0)
    arrive(rig, "a", "b")
    rig.run()
    assert rig.first_s("b") == rig.finished("a").at_s


@pytest.mark.parametrize(("max_running_requests", "num_rows"), [(1, 3), (40, 40)])
def test_few_more_than_may_run_are_in_transfer(max_running_requests: int, num_rows: int) -> None:
    rig = decode_rig(max_running_requests=max_running_requests)
    for index in range(num_rows + 1):
        rig.submit(f"r{index}", 20, 5)
    rig.run(0.0)
    load = rig.engine.load(0.0)
    assert load.decode_transfer_queue_reqs == num_rows
    assert load.decode_prealloc_queue_reqs == 1
    assert load.num_prealloc_ready_tokens == 20


# --- when the other side is gone ---


def test_a_failed_hand_off_ends_a_request_that_depends_on_it() -> None:
    rig = decode_rig(kv_capacity_tokens=100, num_reserved_decode_tokens=10)
    for name in "abc":
        rig.submit(name, 40, 5)
    rig.run(1.0)
    arrive(rig, "a")
    rig.run(1.0)
    for name in "abc":
        rig.engine.handoff_failed(name, 1.0)
    rig.run()
    assert rig.finished("a").reason is FinishReason.LENGTH
    for name in "bc":
        end = rig.finished(name)
        assert (end.reason, end.at_s) == (FinishReason.HANDOFF_FAILED, 1.0)
        assert (end.num_output_tokens, end.first_token_at_s) == (0, None)
    assert rig.num_used_tokens == 0


@pytest.mark.parametrize("stage", ["bootstrap", "waiting", "computing", "sending"])
def test_a_prefill_engine_gives_up_wherever_it_is(stage: str) -> None:
    rig = prefill_rig()
    rig.submit("a", 64, 5)
    if stage != "bootstrap":
        grant(rig, "a")
    computed_s = rig.prefill_s((64, 0))
    if stage in ("computing", "sending"):
        rig.run(computed_s / 2 if stage == "computing" else computed_s)
    at_s = rig.now_s
    rig.engine.handoff_failed("a", at_s)
    rig.run()
    end = rig.finished("a")
    assert end.reason is FinishReason.HANDOFF_FAILED
    assert end.at_s == (computed_s if stage == "computing" else at_s)
    assert not rig.has(KvSent, "a")
    assert rig.num_used_tokens == 0
    assert rig.engine.next_event_s() == math.inf


def test_a_regular_engine_depends_on_nobody() -> None:
    rig = EngineRig(make_spec())
    rig.submit("a", 10, 5)
    rig.engine.handoff_failed("a", 0.0)
    rig.run()
    assert rig.finished("a").reason is FinishReason.LENGTH


def test_who_is_not_here_is_ignored() -> None:
    for rig in (prefill_rig(), decode_rig()):
        rig.engine.kv_granted("x", 0.0)
        rig.engine.kv_arrived("x", 0.0)
        rig.engine.handoff_failed("x", 0.0)
        rig.engine.abort("x", 0.0)
        rig.run()
        assert rig.events == []
