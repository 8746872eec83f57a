"""Requests that no pair of workers can take are told so at once, and why."""

from support.dispatching import Desk
from support.scheduling import plain_models

from hfx_sgl.errors import UnavailableError
from hfx_sgl.policy.pairs.book import PairBook
from hfx_sgl.policy.pairs.link import LinkConfig
from hfx_sgl.policy.scheduler.config import SchedulerConfig
from hfx_sgl.policy.scheduler.scheduler import Scheduler
from hfx_sgl.types import Role

PD = (Role.PREFILL, Role.DECODE)


def desk() -> Desk:
    pairs = PairBook(LinkConfig(failure_threshold=1, cooldown_s=5.0))
    pairs.set_workers(("p0",), ("d0", "d1"))
    made = Desk(Scheduler(SchedulerConfig(), plain_models(), pairs), roles=PD, pairs=pairs)
    made.add_worker("p0", Role.PREFILL)
    made.add_worker("d0", Role.DECODE)
    made.add_worker("d1", Role.DECODE)
    made.timers.turn()
    return made


def test_nobody_is_refused_while_one_pair_is_left() -> None:
    made = desk()
    made.pairs.judge({("p0", "d0"): "page_size: prefill 1, decode 16"})
    assert made.dispatcher.unavailable() is None
    applicant = made.apply()
    made.timers.turn()
    assert applicant.worker_id == "d1"


def test_without_a_pair_the_reason_is_told() -> None:
    made = desk()
    made.pairs.judge({("p0", "d0"): "page_size: prefill 1, decode 16"})
    made.pairs.failed("p0", "d1", "Decode handshake failed", made.clock.now_s())
    error = made.dispatcher.unavailable()
    assert isinstance(error, UnavailableError)
    assert error.code == "no_usable_pair"
    assert "http://10.0.0.1:1000 to http://10.0.0.1:1001: page_size: prefill 1" in error.message
    assert "1 more at /debug/pairs" in error.message
    assert error.retry_after_s == 5.0


def test_who_waits_is_turned_away_when_the_last_pair_goes() -> None:
    made = desk()
    made.pairs.judge({("p0", "d0"): "no"})
    sent = made.apply()
    made.timers.turn()
    made.pairs.failed("p0", "d1", "broken", made.clock.now_s())
    waiting = made.apply()
    made.timers.turn()
    assert sent.error is None
    assert waiting.error is not None
    assert waiting.error.http_status == 503


def test_who_comes_while_a_trial_is_under_way_is_turned_away() -> None:
    made = desk()
    made.pairs.judge({("p0", "d0"): "no"})
    made.pairs.failed("p0", "d1", "broken", made.clock.now_s())
    made.clock.advance(5.0)
    made.pairs.poll(made.clock.now_s())
    assert made.dispatcher.unavailable() is None
    first, second = made.apply(), made.apply()
    made.timers.turn()
    made.timers.turn()
    assert first.worker_id == "d1"
    assert second.assignments == []
    assert second.error is not None
    made.pairs.succeeded("p0", "d1", made.clock.now_s())
    first.leave()
    third = made.apply()
    made.timers.turn()
    assert third.worker_id == "d1"


def test_a_pair_that_may_be_chosen_again_is_used_without_another_event() -> None:
    made = desk()
    made.pairs.judge({("p0", "d0"): "no", ("p0", "d1"): ""})
    assert made.timers.soon != []
