import pytest
from support.engine_rig import EngineRig, make_request, make_spec

from hfx_sgl.engine.events import FinishReason
from hfx_sgl.engine.refusal import EngineRefusal, RefusalReason
from hfx_sgl.errors import ConfigError
from hfx_sgl.prompt import Prompt
from hfx_sgl.types import Role


def refused(rig: EngineRig, prompt: int, max_new_tokens: int = 1) -> RefusalReason:
    with pytest.raises(EngineRefusal) as caught:
        rig.submit("refused", prompt, 1, max_new_tokens=max_new_tokens)
    return caught.value.reason


def test_no_more_requests_run_than_allowed() -> None:
    rig = EngineRig(make_spec(max_running_requests=2))
    for name, num_output_tokens in (("a", 3), ("b", 6), ("c", 2)):
        rig.submit(name, 10, num_output_tokens)
    rig.run()
    first_s = rig.prefill_s((10, 0), (10, 0))
    left_s = first_s + rig.decode_s(2, 20, 2)
    assert rig.finished("a").at_s == left_s
    assert rig.first_s("c") == left_s + rig.prefill_s((10, 0))


def test_a_prompt_waits_for_the_memory_that_running_requests_may_need() -> None:
    rig = EngineRig(make_spec(kv_capacity_tokens=200))
    rig.submit("a", 50, 100, max_new_tokens=100)
    rig.run(rig.prefill_s((50, 0)) + rig.decode_s(1, 50, 10))
    # 60 of the 200 are used, 89 more may be, 63 % of them are expected: not enough for 100.
    rig.submit("b", 60, 40)
    rig.submit("c", 5, 1)
    rig.run()
    assert rig.first_s("b") == rig.finished("a").at_s + rig.prefill_s((60, 0), (5, 0))


def test_a_conservative_engine_expects_more() -> None:
    first = {}
    for conservativeness in (0.0, 1.0):
        rig = EngineRig(
            make_spec(kv_capacity_tokens=200, schedule_conservativeness=conservativeness)
        )
        rig.submit("a", 50, 100)
        rig.submit("b", 60, 20, at_s=rig.prefill_s((50, 0)) + rig.decode_s(1, 50, 10))
        rig.run()
        first[conservativeness] = rig.first_s("b")
    assert first[0.0] < first[1.0]


def test_cached_prompts_make_room() -> None:
    rig = EngineRig(make_spec(kv_capacity_tokens=200))
    rig.submit("a", 150, 1)
    rig.run()
    assert rig.num_used_tokens == 0
    rig.submit("b", 120, 1)
    rig.run(rig.now_s + 1 / 1024)
    assert rig.num_used_tokens == 120
    rig.run()
    # The first prompt was evicted for the second.
    rig.submit("c", Prompt((hash("a"),), (150,)), 1)
    rig.run()
    assert rig.finished("c").num_cached_tokens == 0


@pytest.mark.parametrize(
    ("prompt", "max_new_tokens", "is_taken"),
    [
        (992, 8, True),
        (993, 8, False),
        (994, 1, False),
        (1000, 1, False),
        (500, 500, True),
        (500, 501, False),
    ],
)
def test_a_request_beyond_the_context_is_refused(
    prompt: int, max_new_tokens: int, is_taken: bool
) -> None:
    rig = EngineRig(make_spec(max_context_tokens=1000))
    if is_taken:
        rig.submit("a", prompt, 1, max_new_tokens=max_new_tokens)
    else:
        assert refused(rig, prompt, max_new_tokens) is RefusalReason.TOO_LONG
        assert rig.engine.is_idle


def test_a_prompt_beyond_the_memory_is_refused() -> None:
    rig = EngineRig(make_spec(kv_capacity_tokens=128, page_tokens=16, chunked_prefill_tokens=64))
    assert refused(rig, 113) is RefusalReason.TOO_LONG
    assert refused(rig, 96) is RefusalReason.TOO_LONG
    rig.submit("a", 95, 1)


def test_output_ends_where_the_memory_does() -> None:
    rig = EngineRig(make_spec(kv_capacity_tokens=128, page_tokens=16, chunked_prefill_tokens=64))
    rig.submit("a", 60, 100)
    rig.run()
    end = rig.finished("a")
    assert end.num_output_tokens == 128 - 64 - 16 - 1
    assert end.reason is FinishReason.LENGTH


def test_a_decode_engine_keeps_room_to_grow() -> None:
    rig = EngineRig(make_spec(Role.DECODE, kv_capacity_tokens=100, num_reserved_decode_tokens=30))
    assert refused(rig, 71) is RefusalReason.TOO_LONG
    rig.submit("a", 70, 1)


def test_an_id_is_taken_once_at_a_time() -> None:
    rig = EngineRig(make_spec())
    rig.submit("refused", 10, 1)
    assert refused(rig, 10) is RefusalReason.DUPLICATE
    rig.run()
    rig.submit("refused", 10, 1)


def test_a_full_queue_refuses() -> None:
    rig = EngineRig(make_spec(max_queued_requests=2, max_running_requests=1))
    rig.submit("a", 10, 50)
    rig.run(rig.prefill_s((10, 0)))
    rig.submit("b", 10, 1)
    rig.submit("c", 10, 1)
    assert refused(rig, 10) is RefusalReason.QUEUE_FULL
    rig.run()
    rig.submit("refused", 10, 1)


def test_with_priorities_an_equal_one_is_refused_and_a_higher_one_displaces_the_newest() -> None:
    spec = make_spec(max_queued_requests=2, max_running_requests=1, has_priority=True)
    rig = EngineRig(spec)
    rig.submit("a", 10, 50, priority=9)
    rig.run(rig.prefill_s((10, 0)))
    rig.submit("older", 10, 1)
    rig.submit("newer", 10, 1)
    assert refused(rig, 10) is RefusalReason.QUEUE_FULL
    rig.submit("higher", 10, 1, priority=1)
    rig.run()
    end = rig.finished("newer")
    assert end.reason is FinishReason.EVICTED
    assert (end.num_output_tokens, end.first_token_at_s) == (0, None)
    assert rig.first_s("higher") < rig.first_s("older")


def test_nothing_is_taken_before_the_start_is_over() -> None:
    rig = EngineRig(make_spec(startup_s=5.0), is_started=False)
    assert rig.engine.ready_at_s == 5.0
    rig.run(4.5)
    assert refused(rig, 10) is RefusalReason.NOT_READY
    rig.submit("a", 10, 1, at_s=5.0)
    rig.run()
    assert rig.first_s("a") == 5.0 + rig.prefill_s((10, 0))


def test_after_a_change_of_role_the_new_rules_hold() -> None:
    rig = EngineRig(make_spec(flip_s=0.5))
    shared = Prompt((1,), (30,))
    rig.submit("a", shared, 1)
    with pytest.raises(EngineRefusal):
        rig.engine.switch_role(Role.PREFILL, rig.now_s)
    rig.run()
    flip_s = rig.now_s
    rig.engine.switch_role(Role.PREFILL, flip_s)
    assert rig.engine.role is Role.PREFILL
    assert rig.engine.ready_at_s == flip_s + 0.5
    rig.run(flip_s + 0.25)
    with pytest.raises(EngineRefusal):
        rig.engine.switch_role(Role.DECODE, rig.now_s)
    assert refused(rig, 10) is RefusalReason.NOT_READY
    rig.submit("b", shared, 8, at_s=flip_s + 0.5)
    rig.run()
    assert not rig.engine.is_idle
    rig.engine.kv_granted("b", rig.now_s)
    rig.run()
    end = rig.finished("b")
    assert (end.num_output_tokens, end.num_cached_tokens) == (1, 0)


def test_the_cache_is_flushed_when_idle_only() -> None:
    rig = EngineRig(make_spec())
    shared = Prompt((1,), (30,))
    rig.submit("a", shared, 1)
    assert not rig.engine.flush_cache(rig.now_s)
    rig.run()
    assert rig.engine.flush_cache(rig.now_s)
    rig.submit("b", shared, 1)
    rig.run()
    assert rig.finished("b").num_cached_tokens == 0


def test_a_spec_names_what_is_wrong() -> None:
    with pytest.raises(ConfigError, match="chunked_prefill_tokens: must be a multiple"):
        make_spec(page_tokens=64, chunked_prefill_tokens=100)
    with pytest.raises(ConfigError, match="kv_capacity_tokens: must be at least 64"):
        make_spec(page_tokens=64, kv_capacity_tokens=63, chunked_prefill_tokens=64)


def test_requests_of_one_length_differ() -> None:
    assert make_request("a", 5).prompt != make_request("b", 5).prompt
