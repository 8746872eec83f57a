import pytest

from hfx_sgl.policy.health import HealthConfig, HealthTracker

CONFIG = HealthConfig(failure_threshold=3, success_threshold=2)


@pytest.mark.parametrize(
    ("starts_healthy", "probes", "changes"),
    [
        # `+` is a good probe, `-` a bad one; `!` marks the probes that change the state.
        (False, "+", "!"),
        (False, "--+", "..!"),
        (False, "+---", "!..!"),
        (False, "+---+", "!..!."),
        (False, "+---++", "!..!.!"),
        (False, "+---+-++", "!..!...!"),
        (False, "+--+--", "!....."),
        (True, "--", ".."),
        (True, "---", "..!"),
        (True, "---++", "..!.!"),
        (True, "--+---", ".....!"),
    ],
)
def test_changes(starts_healthy: bool, probes: str, changes: str) -> None:
    tracker = HealthTracker(CONFIG, is_healthy=starts_healthy)
    is_healthy = starts_healthy
    seen = ""
    for probe in probes:
        changed = tracker.record(probe == "+")
        is_healthy ^= changed
        assert tracker.is_healthy is is_healthy
        seen += "!" if changed else "."
    assert seen == changes


def test_starts_unhealthy_unless_told_otherwise() -> None:
    assert not HealthTracker(CONFIG).is_healthy
    assert HealthTracker(CONFIG, is_healthy=True).is_healthy
