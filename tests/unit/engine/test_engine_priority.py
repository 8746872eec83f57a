import pytest
from support.engine_rig import EngineRig, make_spec

from hfx_sgl.types import Role


def test_the_higher_priority_goes_first() -> None:
    rig = EngineRig(make_spec(has_priority=True, max_running_requests=1))
    rig.submit("first", 10, 1)
    rig.submit("low", 10, 1, priority=1)
    rig.submit("high", 10, 1, priority=2)
    rig.submit("high2", 10, 1, priority=2)
    rig.run()
    order = sorted(("first", "low", "high", "high2"), key=rig.first_s)
    assert order == ["high", "high2", "low", "first"]


def test_priorities_mean_nothing_where_they_are_not_asked_for() -> None:
    rig = EngineRig(make_spec(max_running_requests=1))
    rig.submit("first", 10, 1)
    rig.submit("high", 10, 1, priority=20)
    rig.run()
    assert rig.first_s("first") < rig.first_s("high")


def crowded(*, priority: int, **settings: object) -> EngineRig:
    """Return an engine whose only place is taken when a request of some priority arrives."""
    rig = EngineRig(make_spec(Role.REGULAR, max_running_requests=1, has_priority=True, **settings))
    rig.submit("victim", 20, 50)
    begun_s = rig.prefill_s((20, 0))
    rig.submit("vip", 30, 5, at_s=begun_s + rig.decode_s(1, 20, 9) + 1 / 1024, priority=priority)
    rig.run()
    return rig


def test_a_request_of_higher_priority_takes_the_place_of_a_running_one() -> None:
    rig = crowded(priority=11)
    prefill_s = rig.prefill_s((20, 0)) + rig.decode_s(1, 20, 10)
    assert rig.first_s("vip") == prefill_s + rig.prefill_s((30, 0))
    end = rig.finished("victim")
    assert end.num_retractions == 1
    # Its prompt is still cached; the 11 tokens that it had produced are computed again.
    again_s = rig.finished("vip").at_s + rig.prefill_s((11, 20))
    assert end.at_s == again_s + rig.decode_s(1, 31, 38)
    assert rig.engine.load(rig.now_s).num_retractions == 1


@pytest.mark.parametrize(
    ("priority", "settings"),
    [(10, {}), (11, {"has_preemption": False}), (4, {"preemption_threshold": 4})],
)
def test_a_small_difference_is_not_enough(priority: int, settings: dict[str, object]) -> None:
    rig = crowded(priority=priority, **settings)
    assert rig.finished("victim").num_retractions == 0
    assert rig.first_s("vip") > rig.finished("victim").at_s


def test_the_lowest_and_newest_gives_way() -> None:
    rig = EngineRig(make_spec(max_running_requests=3, has_priority=True, preemption_threshold=0))
    for name, priority in (("old", 1), ("new", 1), ("mid", 2)):
        rig.submit(name, 20, 50, priority=priority)
    rig.run(rig.prefill_s((20, 0), (20, 0), (20, 0)))
    rig.submit("vip", 20, 50, priority=3)
    rig.run()
    retractions = {name: rig.finished(name).num_retractions for name in ("old", "new", "mid")}
    assert retractions == {"old": 0, "new": 1, "mid": 0}


def test_nobody_gives_way_when_that_would_not_make_room() -> None:
    rig = EngineRig(make_spec(max_running_requests=1, has_priority=True, kv_capacity_tokens=300))
    rig.submit("victim", 200, 20)
    rig.run(rig.prefill_s((200, 0)))
    rig.submit("vip", 250, 20, priority=20)
    rig.run()
    assert rig.finished("victim").num_retractions == 0


def test_a_place_in_a_decode_engine_goes_by_priority() -> None:
    rig = EngineRig(make_spec(Role.DECODE, has_priority=True, max_running_requests=1))
    for name, priority in (("a", 0), ("b", 0), ("c", 5)):
        rig.submit(name, 20, 9, priority=priority)
    rig.run(0.0)
    rig.engine.kv_arrived("a", 0.0)
    rig.run(1 / 1024)
    for name in "bc":
        rig.engine.kv_arrived(name, 1 / 1024)
    rig.run()
    assert rig.first_s("a") < rig.first_s("c") < rig.first_s("b")


def test_who_was_preempted_in_vain_does_not_stop_the_engine() -> None:
    spec = make_spec(
        max_running_requests=1,
        has_priority=True,
        preemption_threshold=0,
        has_mixed_chunk=True,
        page_tokens=16,
        chunked_prefill_tokens=16,
    )
    rig = EngineRig(spec)
    rig.submit("victim", 10, 5)
    first_s = rig.prefill_s((10, 0))
    # The victim's place in the step leaves no whole page for the prompt.
    rig.submit("vip", 10, 1, at_s=first_s, priority=1)
    rig.run()
    assert rig.first_s("vip") == first_s + rig.prefill_s((10, 0))
    assert rig.finished("victim").num_retractions == 1
