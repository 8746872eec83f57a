"""The state of one link: every event in every state, and the clock of its cooldown."""

import itertools
import math

import pytest

from hfx_sgl.errors import ConfigError
from hfx_sgl.policy.pairs.link import (
    BARRED_STATES,
    TRANSITIONS,
    WITHOUT_EFFECT,
    Link,
    LinkConfig,
    LinkEvent,
    LinkState,
    next_state,
)

CONFIG = LinkConfig(failure_threshold=3, cooldown_s=5.0, max_cooldown_s=18.0)
S, E = LinkState, LinkEvent


def link(config: LinkConfig = CONFIG) -> Link:
    return Link(config, 0.0)


def down(now_s: float = 0.0) -> Link:
    made = link()
    for _ in range(CONFIG.failure_threshold):
        made.failed("broken", now_s)
    assert made.state is S.DOWN
    return made


def on_trial(now_s: float = 10.0) -> Link:
    made = down()
    assert made.poll(now_s)
    assert made.taken(now_s)
    return made


@pytest.mark.parametrize(("state", "event"), list(itertools.product(S, E)))
def test_every_event_moves_or_is_without_effect_or_is_impossible(
    state: LinkState, event: LinkEvent
) -> None:
    key = (state, event)
    assert not (key in TRANSITIONS and key in WITHOUT_EFFECT)
    if key in TRANSITIONS:
        assert next_state(*key) is TRANSITIONS[key]
        assert TRANSITIONS[key] is not state
    elif key in WITHOUT_EFFECT:
        assert next_state(*key) is state
    else:
        with pytest.raises(ValueError, match=rf"{event} .* {state}$"):
            next_state(*key)


@pytest.mark.parametrize("state", S)
def test_a_worker_that_comes_back_begins_anew_in_every_state(state: LinkState) -> None:
    assert next_state(state, E.RENEWED) is S.UNKNOWN


def test_from_every_state_there_is_a_way_to_ok() -> None:
    for start in S:
        reached = {start}
        for _ in S:
            reached |= {after for (before, _), after in TRANSITIONS.items() if before in reached}
        assert S.OK in reached, start


def test_only_hand_offs_that_failed_take_a_link_down_from_where_it_is_in_use() -> None:
    in_use = {S.UNKNOWN, S.OK, S.SUSPECT}
    leading = {
        event
        for (before, event), after in TRANSITIONS.items()
        if before in in_use and after in BARRED_STATES
    }
    assert leading == {E.FAILURES_REACHED}


def test_goes_down_at_the_threshold_and_not_before() -> None:
    made = link()
    assert made.failed("first", 1.0)
    assert (made.state, made.is_barred) == (S.SUSPECT, False)
    assert not made.failed("second", 2.0)
    assert made.failed("third", 3.0)
    assert (made.state, made.is_barred) == (S.DOWN, True)
    assert (made.reason, made.since_s, made.due_at_s) == ("third", 3.0, 8.0)


def test_a_success_between_failures_starts_the_count_again() -> None:
    made = link()
    for now_s in range(10):
        made.failed("a", now_s)
        made.failed("b", now_s)
        assert made.succeeded(now_s)
        assert (made.state, made.num_failures, made.reason) == (S.OK, 0, "")


def test_doubts_alone_never_take_it_down() -> None:
    made = link()
    assert made.doubted("late", 0.0)
    for now_s in range(100):
        assert not made.doubted("late", now_s)
    assert (made.state, made.reason) == (S.SUSPECT, "late")


def test_a_doubt_is_taken_back_and_a_failure_is_not() -> None:
    made = link()
    made.doubted("nobody there", 0.0)
    assert made.reassured(1.0)
    assert (made.state, made.reason) == (S.UNKNOWN, "")
    made.failed("broken", 2.0)
    assert not made.reassured(3.0)
    assert (made.state, made.reason) == (S.SUSPECT, "broken")


def test_after_its_cooldown_one_request_tries_it() -> None:
    made = down(now_s=1.0)
    assert not made.poll(5.999)
    assert made.poll(6.0)
    assert (made.state, made.is_barred, made.due_at_s) == (S.DUE, False, math.inf)
    assert made.taken(7.0)
    assert (made.state, made.is_barred) == (S.TRIAL, True)
    assert made.succeeded(8.0)
    assert (made.state, made.num_failures) == (S.OK, 0)


@pytest.mark.parametrize("event", ["failed", "doubted"])
def test_each_trial_that_fails_doubles_the_cooldown_up_to_its_limit(event: str) -> None:
    made = down(now_s=0.0)
    now_s, pauses_s = 0.0, []
    for _ in range(4):
        pauses_s.append(made.due_at_s - now_s)
        now_s = made.due_at_s
        made.poll(now_s)
        made.taken(now_s)
        assert getattr(made, event)("still broken", now_s)
        assert made.state is S.DOWN
    assert pauses_s == [5.0, 10.0, 18.0, 18.0]
    made.poll(now_s + 18.0)
    made.taken(now_s + 18.0)
    made.succeeded(now_s + 18.0)
    for _ in range(CONFIG.failure_threshold):
        made.failed("again", 1000.0)
    assert made.due_at_s == 1005.0, "a success forgets the doubling"


def test_a_trial_whose_client_leaves_is_repeated_by_the_next_request() -> None:
    made = on_trial()
    assert made.abandoned(11.0)
    assert (made.state, made.is_barred) == (S.DUE, False)


@pytest.mark.parametrize("state", [S.DOWN, S.DUE])
def test_requests_sent_before_it_went_down_change_nothing(state: LinkState) -> None:
    made = down(now_s=1.0)
    if state is S.DUE:
        made.poll(6.0)
    before = (made.state, made.due_at_s, made.num_failures, made.reason)
    assert not made.succeeded(6.5)
    assert not made.failed("old", 6.5)
    assert not made.doubted("old", 6.5)
    assert not made.abandoned(6.5)
    assert (made.state, made.due_at_s, made.num_failures, made.reason) == before


def test_a_renewed_link_knows_nothing() -> None:
    made = on_trial()
    made.failed("still", 11.0)
    assert made.renewed(12.0)
    assert (made.state, made.num_failures, made.reason) == (S.UNKNOWN, 0, "")
    assert made.due_at_s == math.inf
    for _ in range(CONFIG.failure_threshold):
        made.failed("new", 20.0)
    assert made.due_at_s == 25.0


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"failure_threshold": 0}, "failure_threshold: must be at least 1"),
        ({"cooldown_s": 0.0}, "cooldown_s: must be more than 0"),
        ({"cooldown_s": 9.0, "max_cooldown_s": 8.0}, "max_cooldown_s: must be at least 9"),
        ({"max_cooldown_s": math.inf}, "max_cooldown_s"),
    ],
)
def test_bad_configurations_are_refused(given: dict[str, float], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        LinkConfig(**given)  # type: ignore[arg-type]
