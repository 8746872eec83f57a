import math

import pytest
from support.engine_rig import EngineRig, make_spec

from hfx_sgl.engine.events import FinishReason
from hfx_sgl.prompt import Prompt


def test_a_lone_request_takes_what_the_table_says() -> None:
    rig = EngineRig(make_spec())
    rig.submit("a", 100, 20, at_s=1.0)
    rig.run()
    first_s = 1.0 + rig.prefill_s((100, 0))
    assert rig.first_s("a") == first_s
    assert rig.finished("a").at_s == first_s + rig.decode_s(1, 100, 19)


def test_one_output_token_needs_no_decode_step() -> None:
    rig = EngineRig(make_spec())
    rig.submit("a", 100, 1, max_new_tokens=5)
    rig.run()
    end = rig.finished("a")
    assert end.at_s == rig.first_s("a") == rig.prefill_s((100, 0))
    assert end.reason is FinishReason.STOP
    assert end.num_output_tokens == 1


def test_reaching_the_limit_is_a_reason_of_its_own() -> None:
    rig = EngineRig(make_spec())
    rig.submit("a", 10, 5, max_new_tokens=5)
    rig.submit("b", 10, 5, max_new_tokens=6)
    rig.run()
    assert rig.finished("a").reason is FinishReason.LENGTH
    assert rig.finished("b").reason is FinishReason.STOP


def test_a_long_prompt_is_computed_in_chunks() -> None:
    rig = EngineRig(make_spec(chunked_prefill_tokens=64))
    rig.submit("a", 150, 1)
    rig.run()
    assert rig.first_s("a") == (
        rig.prefill_s((64, 0)) + rig.prefill_s((64, 64)) + rig.prefill_s((22, 128))
    )


def test_without_chunks_a_prompt_is_computed_in_one_step() -> None:
    rig = EngineRig(make_spec(chunked_prefill_tokens=None, max_prefill_tokens=64))
    rig.submit("a", 150, 1)
    rig.submit("b", 10, 1)
    rig.run()
    assert rig.first_s("a") == rig.prefill_s((150, 0))
    assert rig.first_s("b") == rig.first_s("a") + rig.prefill_s((10, 0))


def test_the_rest_of_a_chunk_goes_to_the_next_prompt() -> None:
    rig = EngineRig(make_spec(chunked_prefill_tokens=64))
    rig.submit("a", 100, 1)
    rig.submit("b", 50, 1)
    rig.run()
    second_s = rig.prefill_s((64, 0)) + rig.prefill_s((36, 64), (28, 0))
    assert rig.first_s("a") == second_s
    assert rig.first_s("b") == second_s + rig.prefill_s((22, 28))


def test_prompts_of_one_instant_share_a_step() -> None:
    rig = EngineRig(make_spec())
    rig.submit("a", 10, 3)
    rig.submit("b", 30, 3)
    rig.run()
    first_s = rig.prefill_s((10, 0), (30, 0))
    assert rig.first_s("a") == rig.first_s("b") == first_s
    assert rig.finished("a").at_s == first_s + rig.decode_s(2, 40, 2)


def test_a_step_computes_no_more_prompt_tokens_than_allowed() -> None:
    rig = EngineRig(make_spec(max_prefill_tokens=40))
    for name in "abc":
        rig.submit(name, 30, 1)
    rig.run()
    assert rig.first_s("b") == rig.prefill_s((30, 0), (30, 0))
    assert rig.first_s("c") == rig.first_s("b") + rig.prefill_s((30, 0))


def test_a_prefill_step_comes_before_decode_steps() -> None:
    rig = EngineRig(make_spec())
    rig.submit("a", 100, 11)
    first_s = rig.prefill_s((100, 0))
    begun_s = first_s + rig.decode_s(1, 100, 3)
    # In the fourth decode step, which is finished as it was begun.
    rig.submit("b", 50, 3, at_s=begun_s + 1 / 1024)
    rig.run()
    prefill_s = first_s + rig.decode_s(1, 100, 4)
    assert rig.first_s("b") == prefill_s + rig.prefill_s((50, 0))
    both_s = rig.first_s("b") + rig.decode_s(2, 104 + 50, 2)
    assert rig.finished("b").at_s == both_s
    assert rig.finished("a").at_s == both_s + rig.decode_s(1, 106, 4)
    assert rig.finished("b").queue_s == prefill_s - (begun_s + 1 / 1024)


def test_a_mixed_step_carries_the_running_requests() -> None:
    rig = EngineRig(make_spec(has_mixed_chunk=True, chunked_prefill_tokens=64))
    rig.submit("a", 50, 5)
    first_s = rig.prefill_s((50, 0))
    rig.submit("b", 100, 1, at_s=first_s + 1 / 1024)
    rig.run()
    begun_s = first_s + rig.decode_s(1, 50)
    # One of the 64 tokens is the running request's.
    first_chunk_s = begun_s + rig.mixed_s([(63, 0)], 1, 51)
    assert rig.first_s("b") == first_chunk_s + rig.mixed_s([(37, 63)], 1, 52)
    assert rig.finished("a").at_s == rig.first_s("b") + rig.decode_s(1, 53)


def test_extra_time_holds_from_the_next_step_on() -> None:
    rig = EngineRig(make_spec())
    rig.submit("a", 100, 4)
    first_s = rig.prefill_s((100, 0))
    rig.run(first_s + 1 / 1024)
    rig.engine.set_extra_step_s(0.5, first_s + 1 / 1024)
    rig.run()
    later_s = rig.decode_s(1, 101, 2) + 2 * 0.5
    assert rig.finished("a").at_s == first_s + rig.decode_s(1, 100) + later_s


def test_a_cached_prefix_is_not_computed_again() -> None:
    rig = EngineRig(make_spec())
    rig.submit("a", Prompt((1, 2), (60, 40)), 1)
    rig.run()
    rig.submit("b", Prompt((1, 3), (60, 10)), 1, at_s=1.0)
    rig.run()
    rig.submit("c", Prompt((1, 2), (60, 40)), 1, at_s=2.0)
    rig.run()
    assert rig.first_s("b") == 1.0 + rig.prefill_s((10, 60))
    # One token at least is computed.
    assert rig.first_s("c") == 2.0 + rig.prefill_s((1, 99))
    assert [rig.finished(name).num_cached_tokens for name in "abc"] == [0, 60, 99]


def test_a_cached_prefix_ends_on_a_page() -> None:
    rig = EngineRig(make_spec(page_tokens=16))
    rig.submit("a", Prompt((1, 2), (60, 40)), 1)
    rig.run()
    rig.submit("b", Prompt((1, 3), (60, 10)), 1)
    rig.submit("c", Prompt((1, 2), (60, 40)), 1)
    rig.run()
    assert [rig.finished(name).num_cached_tokens for name in "abc"] == [0, 48, 96]


def test_without_a_prefix_cache_everything_is_computed() -> None:
    rig = EngineRig(make_spec(has_prefix_cache=False))
    for name in "ab":
        rig.submit(name, Prompt((1,), (60,)), 1)
        rig.run()
    assert rig.finished("b").num_cached_tokens == 0


@pytest.mark.parametrize("num_output_tokens", [1, 7])
def test_steps_and_events_come_at_the_same_instants(num_output_tokens: int) -> None:
    rig = EngineRig(make_spec())
    rig.submit("a", 100, num_output_tokens)
    step_s = rig.engine.next_step_s()
    ends = [step_s]
    while not rig.engine.is_idle:
        rig.engine.advance(step_s)
        step_s = rig.engine.next_step_s()
        ends.append(step_s)
    first_s = rig.prefill_s((100, 0))
    assert ends[:-1] == [0.0, first_s] + [
        first_s + rig.decode_s(1, 100, n) for n in range(1, num_output_tokens)
    ]
    assert ends[-1] == math.inf


def test_output_is_counted_as_it_comes() -> None:
    rig = EngineRig(make_spec())
    rig.submit("a", 100, 20)
    first_s = rig.prefill_s((100, 0))
    counts = []
    for at_s in (
        first_s / 2,
        first_s,
        first_s + rig.decode_s(1, 100, 7),
        math.nextafter(first_s + rig.decode_s(1, 100, 9), 0.0),
    ):
        rig.run(at_s)
        counts.append(rig.engine.num_output_tokens("a"))
    assert counts == [0, 1, 8, 9]
    with pytest.raises(KeyError):
        rig.engine.num_output_tokens("b")


def test_time_does_not_go_back() -> None:
    rig = EngineRig(make_spec())
    rig.engine.advance(1.0)
    with pytest.raises(ValueError, match="time goes back"):
        rig.engine.advance(0.5)
