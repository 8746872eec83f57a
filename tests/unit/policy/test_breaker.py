import itertools

import pytest

from hfx_sgl.policy.breaker import (
    TRANSITIONS,
    Breaker,
    BreakerConfig,
    BreakerEvent,
    BreakerState,
    next_state,
)

CONFIG = BreakerConfig(failure_threshold=3, success_threshold=2, timeout_s=10.0, window_s=100.0)


def opened(now_s: float = 0.0, config: BreakerConfig = CONFIG) -> Breaker:
    breaker = Breaker(config)
    for _ in range(config.failure_threshold):
        breaker.record_failure(now_s)
    assert breaker.state is BreakerState.OPEN
    return breaker


@pytest.mark.parametrize(("state", "event"), list(itertools.product(BreakerState, BreakerEvent)))
def test_transition_is_in_the_table_or_an_error_names_state_and_event(
    state: BreakerState, event: BreakerEvent
) -> None:
    if (state, event) in TRANSITIONS:
        assert next_state(state, event) is TRANSITIONS[state, event]
    else:
        with pytest.raises(ValueError, match=rf"{event} .* {state}$"):
            next_state(state, event)


def test_opens_at_the_threshold_and_not_before() -> None:
    breaker = Breaker(CONFIG)
    assert [breaker.record_failure(1.0), breaker.record_failure(2.0)] == [False, False]
    assert breaker.allows
    assert breaker.reopens_at_s is None
    assert breaker.record_failure(3.0)
    assert breaker.state is BreakerState.OPEN
    assert not breaker.allows
    assert breaker.reopens_at_s == 13.0


def test_failures_older_than_the_window_do_not_count() -> None:
    breaker = Breaker(CONFIG)
    breaker.record_failure(0.0)
    breaker.record_failure(99.0)
    assert not breaker.record_failure(100.0)
    assert breaker.record_failure(100.5)


def test_successes_between_failures_do_not_clear_the_window() -> None:
    breaker = Breaker(CONFIG)
    for now_s in (1.0, 2.0):
        breaker.record_failure(now_s)
        assert not breaker.record_success(now_s)
    assert breaker.record_failure(3.0)


def test_poll_half_opens_when_the_timeout_is_over() -> None:
    breaker = opened(5.0)
    assert not breaker.poll(14.9)
    assert not breaker.allows
    assert breaker.poll(15.0)
    assert breaker.state is BreakerState.HALF_OPEN
    assert breaker.allows
    assert breaker.reopens_at_s is None
    assert not breaker.poll(1000.0)


def test_half_open_closes_after_enough_successes() -> None:
    breaker = opened()
    breaker.poll(10.0)
    assert not breaker.record_success(11.0)
    assert breaker.record_success(12.0)
    assert breaker.state is BreakerState.CLOSED
    assert breaker.allows


def test_half_open_opens_again_at_the_first_failure_for_the_whole_timeout() -> None:
    breaker = opened()
    breaker.poll(10.0)
    breaker.record_success(11.0)
    assert breaker.record_failure(12.0)
    assert breaker.state is BreakerState.OPEN
    assert breaker.reopens_at_s == 22.0


def test_closing_starts_with_an_empty_window() -> None:
    breaker = opened()
    breaker.poll(10.0)
    breaker.record_success(11.0)
    breaker.record_success(11.0)
    assert [breaker.record_failure(12.0) for _ in range(3)] == [False, False, True]


def test_late_results_do_not_move_an_open_breaker() -> None:
    breaker = opened()
    assert not breaker.record_failure(9.0)
    assert breaker.reopens_at_s == 10.0
    for _ in range(5):
        assert not breaker.record_success(9.0)
    assert breaker.state is BreakerState.OPEN


def test_successes_reported_while_open_do_not_count_as_trials() -> None:
    breaker = opened()
    breaker.record_success(9.0)
    breaker.poll(10.0)
    assert breaker.consecutive_successes == 0
    assert not breaker.record_success(11.0)
    assert breaker.state is BreakerState.HALF_OPEN


def test_consecutive_counters_reset_each_other() -> None:
    breaker = Breaker(CONFIG)
    breaker.record_success(0.0)
    breaker.record_success(0.0)
    assert (breaker.consecutive_successes, breaker.consecutive_failures) == (2, 0)
    breaker.record_failure(0.0)
    assert (breaker.consecutive_successes, breaker.consecutive_failures) == (0, 1)
    breaker.record_success(0.0)
    assert (breaker.consecutive_successes, breaker.consecutive_failures) == (1, 0)


def test_transitions_are_counted_by_both_ends() -> None:
    breaker = opened()
    breaker.poll(10.0)
    breaker.record_failure(10.0)
    breaker.poll(20.0)
    breaker.record_success(20.0)
    breaker.record_success(20.0)
    closed, open_, half_open = BreakerState.CLOSED, BreakerState.OPEN, BreakerState.HALF_OPEN
    assert breaker.num_transitions == {
        (closed, open_): 1,
        (open_, half_open): 2,
        (half_open, open_): 1,
        (half_open, closed): 1,
    }


def test_disabled_breaker_never_opens_but_counts() -> None:
    breaker = Breaker(BreakerConfig(failure_threshold=1, enabled=False))
    assert not any(breaker.record_failure(0.0) for _ in range(20))
    assert breaker.allows
    assert breaker.consecutive_failures == 20
