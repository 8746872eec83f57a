import pytest

from hfx_sgl.policy.admission import Admission, AdmissionConfig, AdmissionOutcome, RateLimiter

ALLOWED, QUEUED = AdmissionOutcome.ALLOWED, AdmissionOutcome.QUEUED
QUEUE_FULL, RATE_LIMITED = AdmissionOutcome.QUEUE_FULL, AdmissionOutcome.RATE_LIMITED


def door(
    max_concurrent: int | None = None,
    queue_size: int = 2,
    queue_timeout_s: float = 30.0,
    rate_per_s: float | None = None,
) -> Admission:
    return Admission(
        AdmissionConfig(
            max_concurrent=max_concurrent,
            queue_size=queue_size,
            queue_timeout_s=queue_timeout_s,
            rate_per_s=rate_per_s,
        )
    )


def test_no_limits_let_everybody_in() -> None:
    admission = door()
    assert {admission.offer(ticket, 0.0) for ticket in range(1000)} == {ALLOWED}
    assert admission.num_active == 1000
    assert admission.release(0.0) is None
    assert admission.num_active == 999


def test_slots_then_queue_then_full() -> None:
    admission = door(max_concurrent=2, queue_size=2)
    outcomes = [admission.offer(ticket, 0.0) for ticket in range(5)]
    assert outcomes == [ALLOWED, ALLOWED, QUEUED, QUEUED, QUEUE_FULL]
    assert (admission.num_active, admission.num_queued) == (2, 2)


def test_release_lets_in_the_longest_waiting() -> None:
    admission = door(max_concurrent=1)
    for ticket in (7, 5, 6):
        admission.offer(ticket, 0.0)
    assert [admission.release(1.0) for _ in range(3)] == [5, 6, None]
    assert (admission.num_active, admission.num_queued) == (0, 0)


def test_no_queue_turns_away_at_once() -> None:
    admission = door(max_concurrent=1, queue_size=0)
    assert [admission.offer(ticket, 0.0) for ticket in (1, 2)] == [ALLOWED, QUEUE_FULL]


def test_cancelled_ticket_is_not_let_in() -> None:
    admission = door(max_concurrent=1)
    for ticket in (1, 2, 3):
        admission.offer(ticket, 0.0)
    assert admission.cancel(2)
    assert not admission.cancel(2)
    assert admission.release(1.0) == 3


def test_cancel_does_not_touch_active_tickets() -> None:
    admission = door(max_concurrent=1)
    admission.offer(1, 0.0)
    assert not admission.cancel(1)
    assert admission.num_active == 1


def test_expiry_takes_out_those_that_waited_too_long_in_order() -> None:
    admission = door(max_concurrent=1, queue_size=3, queue_timeout_s=10.0)
    for ticket, now_s in ((1, 0.0), (2, 1.0), (3, 2.0), (4, 5.0)):
        admission.offer(ticket, now_s)
    assert admission.wakes_at_s == 11.0
    assert admission.expire(10.9) == []
    assert admission.expire(12.0) == [2, 3]
    assert admission.wakes_at_s == 15.0
    assert admission.release(13.0) == 4
    assert admission.wakes_at_s is None


def test_release_without_an_active_ticket_is_an_error() -> None:
    with pytest.raises(ValueError, match="without an active ticket"):
        door().release(0.0)


def test_queued_twice_is_an_error() -> None:
    admission = door(max_concurrent=1)
    admission.offer(1, 0.0)
    admission.offer(2, 0.0)
    with pytest.raises(ValueError, match="ticket 2 is already queued"):
        admission.offer(2, 0.0)


def test_rate_lets_a_second_s_worth_in_and_queues_the_rest() -> None:
    admission = door(queue_size=2, rate_per_s=4.0)
    outcomes = [admission.offer(ticket, 10.0) for ticket in range(7)]
    assert outcomes == [ALLOWED] * 4 + [QUEUED] * 2 + [RATE_LIMITED]
    assert admission.wakes_at_s == pytest.approx(10.25, abs=1e-3)


def test_poll_lets_in_what_the_rate_has_room_for() -> None:
    admission = door(queue_size=9, rate_per_s=4.0)
    for ticket in range(8):
        admission.offer(ticket, 0.0)
    assert admission.poll(0.24) == []
    assert admission.poll(0.5) == [4, 5]
    assert admission.poll(0.75) == [6]
    assert admission.num_active == 7


def test_waking_at_the_given_instant_always_finds_the_token() -> None:
    admission = door(queue_size=1000, queue_timeout_s=1e6, rate_per_s=0.3)
    for ticket in range(500):
        admission.offer(ticket, 1e6 + 0.1)
    let_in = 1
    while (wakes_at_s := admission.wakes_at_s) is not None:
        let_in += len(admission.poll(wakes_at_s))
        assert admission.num_active == let_in
    assert let_in == 500


def test_newcomers_do_not_overtake_those_that_wait_for_the_rate() -> None:
    admission = door(queue_size=5, rate_per_s=1.0)
    assert [admission.offer(ticket, 0.0) for ticket in (1, 2)] == [ALLOWED, QUEUED]
    assert admission.offer(3, 5.0) is QUEUED
    assert admission.poll(5.0) == [2]
    assert admission.poll(6.0) == [3]


def test_freed_slot_stays_free_while_the_rate_is_used_up() -> None:
    admission = door(max_concurrent=1, queue_size=5, rate_per_s=1.0)
    admission.offer(1, 0.0)
    admission.offer(2, 0.0)
    assert admission.wakes_at_s == 30.0
    assert admission.release(0.5) is None
    assert admission.num_active == 0
    assert admission.wakes_at_s == pytest.approx(1.0, abs=1e-3)
    assert admission.poll(1.0) == [2]


def test_full_queue_is_blamed_on_the_limit_that_filled_it() -> None:
    admission = door(max_concurrent=1, queue_size=0, rate_per_s=1.0)
    assert admission.offer(1, 0.0) is ALLOWED
    assert admission.offer(2, 0.0) is QUEUE_FULL
    admission.release(0.1)
    assert admission.offer(3, 0.2) is RATE_LIMITED


def test_retry_after_is_the_timeout_before_any_slot_came_free() -> None:
    admission = door(max_concurrent=1, queue_timeout_s=20.0)
    admission.offer(1, 0.0)
    assert admission.retry_after_s(15.0) == 20.0


def serve(admission: Admission, num: int, hold_s: float, now_s: float) -> float:
    for ticket in range(num):
        assert admission.offer(ticket, now_s) is ALLOWED
        now_s += hold_s
        admission.release(now_s)
    return now_s


def test_retry_after_follows_how_long_slots_are_held_and_how_many_wait() -> None:
    admission = door(max_concurrent=2, queue_size=9, queue_timeout_s=60.0)
    now_s = serve(admission, 10, hold_s=4.0, now_s=0.0)
    for ticket in range(100, 105):
        admission.offer(ticket, now_s)
    # Two slots of 4 s each free one every 2 s; three wait, so a newcomer is the fourth.
    assert admission.num_queued == 3
    assert admission.retry_after_s(now_s) == pytest.approx(8.0)


def test_retry_after_ignores_idle_time() -> None:
    admission = door(max_concurrent=1, queue_timeout_s=60.0)
    now_s = serve(admission, 10, hold_s=3.0, now_s=0.0) + 3600.0
    admission.offer(100, now_s)
    assert admission.retry_after_s(now_s) == pytest.approx(3.0)


def test_retry_after_counts_a_slot_from_when_it_was_taken() -> None:
    admission = door(max_concurrent=1, queue_timeout_s=600.0, rate_per_s=1.0)
    admission.offer(1, 0.0)
    admission.offer(2, 0.0)
    admission.offer(3, 0.0)
    assert admission.release(0.5) is None
    assert admission.poll(100.0) == [2]
    assert admission.release(107.5) == 3
    # The first two held it for 0.5 s and 7.5 s; nobody did in the time between them.
    assert admission.retry_after_s(107.5) == pytest.approx(4.0)


def test_retry_after_forgets_old_releases() -> None:
    admission = door(max_concurrent=1, queue_timeout_s=60.0)
    now_s = serve(admission, 50, hold_s=40.0, now_s=0.0)
    now_s = serve(admission, 100, hold_s=2.0, now_s=now_s)
    admission.offer(1000, now_s)
    assert admission.retry_after_s(now_s) == pytest.approx(2.0)


def test_retry_after_grows_while_nothing_comes_free() -> None:
    admission = door(max_concurrent=1, queue_timeout_s=60.0)
    now_s = serve(admission, 1, hold_s=2.0, now_s=0.0)
    admission.offer(100, now_s)
    assert admission.retry_after_s(now_s + 28.0) == pytest.approx(30.0)


def test_retry_after_is_at_least_a_second_and_at_most_the_timeout() -> None:
    admission = door(max_concurrent=1, queue_timeout_s=10.0)
    now_s = serve(admission, 5, hold_s=0.01, now_s=0.0)
    admission.offer(100, now_s)
    assert admission.retry_after_s(now_s) == 1.0
    assert admission.retry_after_s(now_s + 1000.0) == 10.0


def test_retry_after_of_the_rate_counts_those_that_wait_for_it() -> None:
    admission = door(queue_size=3, rate_per_s=0.5)
    for ticket in range(4):
        admission.offer(ticket, 0.0)
    assert admission.retry_after_s(0.0) == pytest.approx(8.0)


@pytest.mark.parametrize(
    ("rate_per_s", "burst"), [(0.1, 1), (1.0, 1), (2.5, 2), (3.0, 3), (10.0, 10), (1000.0, 1000)]
)
def test_bucket_holds_one_second_s_worth(rate_per_s: float, burst: int) -> None:
    limiter = RateLimiter(rate_per_s)
    for now_s in (0.0, 1e5):
        assert sum(limiter.take(now_s) for _ in range(2000)) == burst
