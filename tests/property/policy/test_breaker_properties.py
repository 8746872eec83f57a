from hypothesis import given, settings
from hypothesis import strategies as st

from hfx_sgl.policy.breaker import TRANSITIONS, Breaker, BreakerConfig, BreakerState
from hfx_sgl.policy.health import HealthConfig, HealthTracker

STEPS = st.lists(
    st.tuples(st.sampled_from(["success", "failure", "poll"]), st.sampled_from([0.0, 1.0, 5.0])),
    max_size=80,
)


@settings(max_examples=150, deadline=None)
@given(steps=STEPS, failures=st.integers(1, 4), successes=st.integers(1, 3))
def test_breaker_moves_only_by_its_table_and_says_so(
    steps: list[tuple[str, float]], failures: int, successes: int
) -> None:
    breaker = Breaker(
        BreakerConfig(
            failure_threshold=failures, success_threshold=successes, timeout_s=7.0, window_s=9.0
        )
    )
    moves = {(state, target) for (state, _), target in TRANSITIONS.items()}
    now_s, num_changes = 0.0, 0
    for action, passed_s in steps:
        now_s += passed_s
        before = breaker.state
        act = {
            "success": breaker.record_success,
            "failure": breaker.record_failure,
            "poll": breaker.poll,
        }[action]
        changed = act(now_s)
        num_changes += changed
        assert changed is (breaker.state is not before)
        assert not changed or (before, breaker.state) in moves
        assert breaker.allows is (breaker.state is not BreakerState.OPEN)
        assert (breaker.reopens_at_s is None) is breaker.allows
        if before is not BreakerState.OPEN and breaker.state is BreakerState.OPEN:
            assert action == "failure"
    assert sum(breaker.num_transitions.values()) == num_changes


@settings(max_examples=100, deadline=None)
@given(gaps_s=st.lists(st.floats(0, 30), max_size=40), threshold=st.integers(1, 5))
def test_breaker_opens_exactly_when_the_window_holds_the_threshold(
    gaps_s: list[float], threshold: int
) -> None:
    breaker = Breaker(BreakerConfig(failure_threshold=threshold, window_s=20.0))
    failed_at_s: list[float] = []
    now_s = 0.0
    for gap_s in gaps_s:
        now_s += gap_s
        failed_at_s.append(now_s)
        num_recent = sum(at_s > now_s - 20.0 for at_s in failed_at_s)
        assert breaker.record_failure(now_s) is (num_recent >= threshold)
        if not breaker.allows:
            return


@settings(max_examples=100, deadline=None)
@given(
    probes=st.lists(st.booleans(), max_size=60),
    failures=st.integers(1, 4),
    successes=st.integers(1, 4),
)
def test_health_changes_only_after_a_full_run(
    probes: list[bool], failures: int, successes: int
) -> None:
    tracker = HealthTracker(HealthConfig(failure_threshold=failures, success_threshold=successes))
    for index, ok in enumerate(probes):
        was_healthy = tracker.is_healthy
        ever_ok = any(probes[:index])
        if tracker.record(ok):
            assert tracker.is_healthy is ok
            needed = failures if was_healthy else (successes if ever_ok else 1)
            assert probes[max(0, index + 1 - needed) : index + 1] == [ok] * needed
        else:
            assert tracker.is_healthy is was_healthy
    assert not (probes and all(probes) and not tracker.is_healthy)
    assert not (probes[-failures:] == [False] * failures and tracker.is_healthy)
