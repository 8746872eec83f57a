from hfx_sgl.clock import FakeClock
from hfx_sgl.emulator.clock import EngineClock


def test_time_stands_still_while_it_is_held() -> None:
    wall = FakeClock(100.0)
    clock = EngineClock(wall)
    wall.advance(5)
    assert clock.now_s() == 105.0
    clock.hold()
    wall.advance(10)
    assert (clock.now_s(), clock.is_held) == (105.0, True)
    clock.hold()
    wall.advance(1)
    clock.release()
    assert (clock.now_s(), clock.is_held) == (105.0, False)
    wall.advance(2)
    assert clock.now_s() == 107.0


def test_holds_add_up_and_a_release_alone_does_nothing() -> None:
    wall = FakeClock()
    clock = EngineClock(wall)
    for _ in range(3):
        clock.hold()
        wall.advance(1)
        clock.release()
        clock.release()
        wall.advance(1)
    assert clock.now_s() == 3.0
