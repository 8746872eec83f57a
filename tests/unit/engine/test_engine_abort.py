import math

from support.engine_rig import EngineRig, make_spec

from hfx_sgl.engine.events import FinishReason, FirstToken
from hfx_sgl.prompt import Prompt
from hfx_sgl.types import Role


def abort(rig: EngineRig, request_id: str, at_s: float) -> None:
    rig.run(at_s, is_input=True)
    rig.engine.abort(request_id, at_s)


def assert_ended(rig: EngineRig, at_s: float, num_output_tokens: int) -> None:
    """Check the end of the request "a", and that nothing is held once everybody has left."""
    rig.run()
    end = rig.finished("a")
    assert (end.reason, end.at_s) == (FinishReason.ABORTED, at_s)
    assert end.num_output_tokens == num_output_tokens
    assert rig.engine.is_idle
    assert rig.num_used_tokens == 0
    assert rig.engine.next_event_s() == math.inf


def test_before_it_has_begun() -> None:
    rig = EngineRig(make_spec())
    rig.submit("a", 10, 5, at_s=1.0)
    abort(rig, "a", 1.0)
    assert_ended(rig, 1.0, 0)
    assert not rig.has(FirstToken, "a")


def test_while_it_waits() -> None:
    rig = EngineRig(make_spec(max_running_requests=1))
    rig.submit("b", 10, 50)
    rig.submit("a", 10, 5)
    at_s = rig.prefill_s((10, 0)) + 1 / 1024
    abort(rig, "a", at_s)
    assert_ended(rig, at_s, 0)
    assert rig.finished("a").queue_s == at_s
    assert rig.finished("b").at_s == rig.prefill_s((10, 0)) + rig.decode_s(1, 10, 49)


def test_in_a_prefill_step() -> None:
    rig = EngineRig(make_spec())
    rig.submit("a", 64, 5)
    rig.submit("b", 64, 1)
    abort(rig, "a", 1 / 1024)
    assert_ended(rig, rig.prefill_s((64, 0), (64, 0)), 0)
    assert not rig.has(FirstToken, "a")
    assert rig.finished("b").num_output_tokens == 1


def test_between_chunks() -> None:
    rig = EngineRig(make_spec(chunked_prefill_tokens=64))
    rig.submit("a", 200, 5)
    abort(rig, "a", rig.prefill_s((64, 0)) + 1 / 1024)
    assert_ended(rig, rig.prefill_s((64, 0)) + rig.prefill_s((64, 64)), 0)


def test_at_the_very_end_of_a_chunk() -> None:
    rig = EngineRig(make_spec(chunked_prefill_tokens=64))
    rig.submit("a", 200, 5)
    at_s = rig.prefill_s((64, 0))
    abort(rig, "a", at_s)
    # The step has ended, the next has not begun.
    assert_ended(rig, at_s, 0)


def test_in_a_decode_step() -> None:
    rig = EngineRig(make_spec())
    rig.submit("a", 64, 50)
    rig.submit("b", 64, 20)
    first_s = rig.prefill_s((64, 0), (64, 0))
    abort(rig, "a", first_s + rig.decode_s(2, 128, 5) + 1 / 1024)
    end_s = first_s + rig.decode_s(2, 128, 6)
    assert_ended(rig, end_s, 7)
    assert rig.finished("b").at_s == end_s + rig.decode_s(1, 70, 13)


def test_in_its_last_decode_step() -> None:
    rig = EngineRig(make_spec())
    rig.submit("a", 64, 5)
    end_s = rig.prefill_s((64, 0)) + rig.decode_s(1, 64, 4)
    abort(rig, "a", end_s - 1 / 1024)
    rig.run()
    assert rig.finished("a").reason is FinishReason.LENGTH
    assert rig.finished("a").at_s == end_s


def test_twice_is_once() -> None:
    rig = EngineRig(make_spec())
    rig.submit("a", 64, 50)
    abort(rig, "a", 1 / 1024)
    abort(rig, "a", 2 / 1024)
    assert_ended(rig, rig.prefill_s((64, 0)), 0)


def test_while_others_are_computed() -> None:
    rig = EngineRig(make_spec())
    rig.submit("a", 64, 50)
    first_s = rig.prefill_s((64, 0))
    rig.submit("b", 64, 1, at_s=first_s + 1 / 1024)
    prefill_s = first_s + rig.decode_s(1, 64)
    abort(rig, "a", prefill_s + 1 / 1024)
    assert_ended(rig, prefill_s + rig.prefill_s((64, 0)), 2)


def test_a_computed_prompt_stays_cached() -> None:
    rig = EngineRig(make_spec())
    rig.submit("a", Prompt((1,), (64,)), 50)
    abort(rig, "a", rig.prefill_s((64, 0)) + 1 / 1024)
    rig.run()
    rig.submit("b", Prompt((1, 2), (64, 5)), 1)
    rig.run()
    assert rig.finished("b").num_cached_tokens == 64


def test_in_the_bootstrap_queue() -> None:
    rig = EngineRig(make_spec(Role.PREFILL))
    rig.submit("a", 64, 50)
    abort(rig, "a", 1.0)
    rig.engine.kv_granted("a", 1.0)
    assert_ended(rig, 1.0, 0)


def test_while_its_chunks_are_sent() -> None:
    rig = EngineRig(make_spec(Role.PREFILL, chunked_prefill_tokens=64, handoff_bytes_per_s=64.0))
    rig.submit("a", 200, 50)
    rig.engine.kv_granted("a", 0.0)
    abort(rig, "a", rig.prefill_s((64, 0)) + 1 / 1024)
    assert_ended(rig, rig.prefill_s((64, 0)) + rig.prefill_s((64, 64)), 0)


def test_while_it_is_sent() -> None:
    rig = EngineRig(make_spec(Role.PREFILL))
    for name in "ab":
        rig.submit(name, 64, 50)
        rig.engine.kv_granted(name, 0.0)
    computed_s = rig.prefill_s((64, 0), (64, 0))
    # Half of the first is sent when the second gets the link for itself.
    at_s = computed_s + 64 * 16 / 2.0**14
    abort(rig, "a", at_s)
    assert_ended(rig, at_s, 1)
    assert rig.sent_s("b") == at_s + 32 * 16 / 2.0**14 + 1 / 32
    assert rig.engine.load(rig.now_s).prefill_inflight_queue_reqs == 0


def test_while_it_waits_for_room() -> None:
    rig = EngineRig(make_spec(Role.DECODE, kv_capacity_tokens=100))
    rig.submit("b", 60, 5)
    rig.submit("a", 60, 5)
    abort(rig, "a", 1.0)
    rig.engine.kv_arrived("b", 1.0)
    assert_ended(rig, 1.0, 0)


def test_while_its_memory_is_on_its_way() -> None:
    rig = EngineRig(make_spec(Role.DECODE, kv_capacity_tokens=100))
    rig.submit("a", 60, 5)
    rig.submit("b", 60, 5)
    abort(rig, "a", 1.0)
    rig.run(1.0)
    # The next in the queue has its room.
    assert rig.allocated_s("b") == 1.0
    rig.engine.kv_arrived("a", 1.0)
    rig.engine.kv_arrived("b", 1.0)
    assert_ended(rig, 1.0, 0)


def test_after_its_memory_has_arrived() -> None:
    rig = EngineRig(make_spec(Role.DECODE, max_running_requests=1))
    for name in "ba":
        rig.submit(name, 60, 50)
    rig.run(0.0)
    for name in "ba":
        rig.engine.kv_arrived(name, 0.0)
    abort(rig, "a", 1 / 1024)
    assert_ended(rig, 1 / 1024, 0)


def test_in_a_step_of_a_decode_engine() -> None:
    rig = EngineRig(make_spec(Role.DECODE))
    rig.submit("a", 60, 50)
    rig.run(0.0)
    rig.engine.kv_arrived("a", 0.0)
    abort(rig, "a", rig.decode_s(1, 60, 3) + 1 / 1024)
    assert_ended(rig, rig.decode_s(1, 60, 4), 5)
