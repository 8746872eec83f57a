import pytest

from hfx_sgl.clock import Clock, FakeClock, WallClock, unix_time_s


def test_the_fake_clock_moves_only_when_told_to() -> None:
    clock = FakeClock(10.0)
    assert [clock.now_s(), clock.now_s()] == [10.0, 10.0]
    clock.advance(2.5)
    clock.advance(0.0)
    assert clock.now_s() == 12.5
    assert FakeClock().now_s() == 0.0


def test_time_does_not_run_backwards() -> None:
    clock = FakeClock(10.0)
    with pytest.raises(ValueError, match=r"duration_s must not be negative \(-1\)"):
        clock.advance(-1)
    assert clock.now_s() == 10.0


def test_the_wall_clock_is_monotonic() -> None:
    clock: Clock = WallClock()
    readings = [clock.now_s() for _ in range(1000)]
    assert readings == sorted(readings)


def test_unix_time_is_of_this_age() -> None:
    assert 1.7e9 < unix_time_s() < 1e10
