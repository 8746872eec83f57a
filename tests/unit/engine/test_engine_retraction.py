import pytest
from support.engine_rig import EngineRig, make_spec

from hfx_sgl.engine.events import Finished, FinishReason, FirstToken
from hfx_sgl.types import Role


def overcommitted(**settings: object) -> EngineRig:
    """Return an engine with two requests that cannot both come to their end.

    What running requests may need is not taken into account, so the second is let in.
    """
    rig = EngineRig(
        make_spec(Role.REGULAR, kv_capacity_tokens=140, schedule_conservativeness=0.0, **settings)
    )
    rig.submit("a", 40, 40)
    rig.submit("b", 45, 40, at_s=rig.prefill_s((40, 0)) + rig.decode_s(1, 40, 4) + 1 / 1024)
    return rig


def full_s(rig: EngineRig) -> float:
    """When the memory of that engine is full: 90 tokens at first, 25 steps of two requests."""
    joined_s = rig.prefill_s((40, 0)) + rig.decode_s(1, 40, 5) + rig.prefill_s((45, 0))
    return joined_s + rig.decode_s(2, 45 + 45, 25)


def test_who_has_produced_least_is_retracted_and_computed_again() -> None:
    rig = overcommitted()
    rig.run()
    # The first has 31 tokens of output then, the second 26.
    left_s = full_s(rig) + rig.decode_s(1, 70, 9)
    assert rig.finished("a").at_s == left_s
    # The prompt of the second is still cached.
    again_s = left_s + rig.prefill_s((26, 45))
    end = rig.finished("b")
    assert end.at_s == again_s + rig.decode_s(1, 71, 13)
    assert (end.num_retractions, end.num_output_tokens, end.num_cached_tokens) == (1, 40, 0)
    assert rig.finished("a").num_retractions == 0
    assert rig.num_used_tokens == 0
    assert rig.engine.load(rig.now_s).num_retractions == 1
    # Its first token came once.
    assert [e.request_id for e in rig.events if isinstance(e, FirstToken)] == ["a", "b"]


def test_output_is_kept_while_a_retracted_request_waits() -> None:
    rig = overcommitted()
    rig.run(full_s(rig) + 1 / 1024)
    assert rig.engine.num_output_tokens("b") == 26
    load = rig.engine.load(rig.now_s)
    assert load.num_waiting_reqs == 1
    assert load.num_total_tokens - load.num_used_tokens == 45 + 26


def test_a_full_queue_takes_no_retracted_request() -> None:
    rig = overcommitted(max_queued_requests=1)
    joined_s = full_s(rig) - rig.decode_s(2, 90, 25)
    rig.submit("c", 60, 1, at_s=joined_s + 1 / 1024)
    rig.run()
    end = rig.finished("b")
    assert (end.at_s, end.reason, end.num_output_tokens) == (
        full_s(rig),
        FinishReason.EVICTED,
        26,
    )
    assert rig.finished("a").num_output_tokens == 40
    assert rig.first_s("c") > end.at_s


def parked() -> EngineRig:
    """Return a decode engine with two requests that cannot both come to their end."""
    rig = EngineRig(make_spec(Role.DECODE, kv_capacity_tokens=120, num_reserved_decode_tokens=1))
    rig.submit("a", 40, 35)
    rig.run(0.0)
    rig.engine.kv_arrived("a", 0.0)
    at_s = rig.decode_s(1, 40, 4) + 1 / 1024
    rig.submit("b", 45, 35, at_s=at_s)
    rig.run(rig.decode_s(1, 40, 5))
    assert rig.allocated_s("b") == rig.now_s
    rig.engine.kv_arrived("b", rig.now_s)
    return rig


def parked_s(rig: EngineRig) -> float:
    """When its memory is full: 91 tokens when the second joins, 14 steps of two requests."""
    return rig.decode_s(1, 40, 6) + rig.decode_s(2, 91, 14)


def test_a_decode_engine_brings_parked_memory_back() -> None:
    rig = parked()
    rig.run()
    # The first has 21 tokens of output then, the second 15; nothing is computed again.
    left_s = parked_s(rig) + rig.decode_s(1, 60, 14)
    assert rig.finished("a").at_s == left_s
    end = rig.finished("b")
    assert end.at_s == left_s + rig.decode_s(1, 59, 20)
    assert (end.num_retractions, end.num_output_tokens) == (1, 35)
    assert rig.num_used_tokens == 0


def test_nobody_new_is_let_in_while_a_decode_engine_has_parked_memory() -> None:
    rig = parked()
    rig.run(parked_s(rig) + 1 / 1024)
    load = rig.engine.load(rig.now_s)
    assert (load.decode_retracted_queue_reqs, load.num_waiting_reqs) == (1, 1)
    assert load.num_total_tokens - load.num_used_tokens == 45 + 15
    rig.submit("c", 5, 2)
    rig.run()
    assert rig.allocated_s("c") == rig.finished("a").at_s


@pytest.mark.parametrize("role", [Role.REGULAR, Role.DECODE])
def test_a_retracted_request_can_be_aborted(role: Role) -> None:
    rig = overcommitted() if role is Role.REGULAR else parked()
    at_s = (full_s(rig) if role is Role.REGULAR else parked_s(rig)) + 1 / 1024
    rig.run(at_s)
    assert rig.engine.load(at_s).num_retractions == 1
    rig.engine.abort("b", at_s)
    rig.run()
    end = rig.finished("b")
    assert (end.at_s, end.reason) == (at_s, FinishReason.ABORTED)
    assert end.num_output_tokens == (26 if role is Role.REGULAR else 15)
    assert rig.has(Finished, "a")
    assert rig.num_used_tokens == 0
