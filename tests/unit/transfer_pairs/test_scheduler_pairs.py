"""The scheduler sends nothing to a pair that may not be chosen, and loses no request over it."""

import math
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.scheduling import PAIRS, dispatched, plain_models, request, worker

from hfx_sgl.policy.latency.models import LatencyModels
from hfx_sgl.policy.latency.prior import LatencyPrior
from hfx_sgl.policy.pairs.book import PairBook
from hfx_sgl.policy.pairs.link import LinkConfig, LinkState
from hfx_sgl.policy.scheduler.config import SchedulerConfig
from hfx_sgl.policy.scheduler.facts import WorkerFacts, WorkerReport
from hfx_sgl.policy.scheduler.scheduler import Scheduler
from hfx_sgl.types import Role

CONFIG = LinkConfig(failure_threshold=1, cooldown_s=5.0)
PREFILLS, DECODES = ("p0", "p1"), ("d0", "d1")


def book(problems: Mapping[tuple[str, str], str] | None = None) -> PairBook:
    made = PairBook(CONFIG)
    made.set_workers(PREFILLS, DECODES)
    made.judge(problems or {})
    return made


def scheduler(pairs: PairBook, kv_capacity_tokens: int = 1_000_000) -> Scheduler:
    made = Scheduler(SchedulerConfig(), plain_models(), pairs)
    for worker_id, role in PAIRS:
        made.add_worker(worker(worker_id, role, kv_capacity_tokens))
    return made


def sent(made: Scheduler, num_requests: int, at_s: float = 0.0) -> list[tuple[str | None, str]]:
    """The pairs of so many requests, each of them over before the next comes."""
    pairs = []
    for n in range(num_requests):
        name = f"r{at_s}-{n}"
        made.arrive(request(name, 10, at_s=at_s))
        for one in dispatched(made, at_s):
            pairs.append((one.prefill_worker_id, one.worker_id))
        made.over(name, at_s, None)
    return pairs


ONE_EACH = {("p0", "d1"): "no", ("p1", "d0"): "no"}


def test_each_prefill_worker_gets_the_decode_worker_that_fits() -> None:
    made = scheduler(book(ONE_EACH))
    pairs = []
    for n in range(4):
        made.arrive(request(f"r{n}", 100))
        pairs += [(one.prefill_worker_id, one.worker_id) for one in dispatched(made, 0.2 * n)]
        made.prefill_over(f"r{n}", 0.2 * n + 0.1)
    assert set(pairs) == {("p0", "d0"), ("p1", "d1")}
    assert len(pairs) == 4


def test_a_prefill_worker_without_a_partner_gets_nothing() -> None:
    made = scheduler(book({("p0", "d0"): "no", ("p0", "d1"): "no"}))
    assert {prefill for prefill, _ in sent(made, 5)} == {"p1"}


def test_nor_one_whose_only_partner_cannot_be_used() -> None:
    made = scheduler(book(ONE_EACH))
    made.set_usable("d0", False)
    assert set(sent(made, 5)) == {("p1", "d1")}
    made.set_usable("d0", True)
    made.set_usable("d1", False)
    assert set(sent(made, 5, at_s=1.0)) == {("p0", "d0")}


def test_a_full_partner_does_not_hold_up_who_can_go_elsewhere() -> None:
    """The least loaded prefill worker's partner has no room: the other pair serves."""
    made = scheduler(book(ONE_EACH), kv_capacity_tokens=1000)
    made.arrive(request("big", 600, max_output_tokens=100))
    (first,) = dispatched(made, 0.0)
    made.prefill_over("big", 0.6)
    made.arrive(request("next", 600, at_s=0.7, max_output_tokens=100))
    (second,) = dispatched(made, 0.7)
    assert {first.worker_id, second.worker_id} == {"d0", "d1"}
    for one in (first, second):
        assert (one.prefill_worker_id, one.worker_id) in {("p0", "d0"), ("p1", "d1")}


def test_the_partner_is_found_behind_many_that_do_not_fit() -> None:
    decode_ids = tuple(f"d{n}" for n in range(40))
    pairs = PairBook(CONFIG)
    pairs.set_workers(("p0",), decode_ids)
    pairs.judge({("p0", decode_id): "no" for decode_id in decode_ids[:-1]})
    made = Scheduler(SchedulerConfig(), plain_models(), pairs)
    made.add_worker(worker("p0", Role.PREFILL))
    for decode_id in decode_ids:
        made.add_worker(worker(decode_id, Role.DECODE))
    assert sent(made, 3) == [("p0", decode_ids[-1])] * 3


def test_a_pair_on_trial_gets_one_request() -> None:
    pairs = book({("p0", "d1"): "no", ("p1", "d0"): "no", ("p1", "d1"): "no"})
    made = scheduler(pairs)
    pairs.failed("p0", "d0", "broken", 0.0)
    for n in range(3):
        made.arrive(request(f"r{n}", 10))
    assert dispatched(made, 0.0) == []
    pairs.poll(5.0)
    (trial,) = dispatched(made, 5.0)
    assert (trial.prefill_worker_id, trial.worker_id) == ("p0", "d0")
    assert pairs.standing("p0", "d0").state is LinkState.TRIAL
    made.prefill_over(trial.request_id, 5.1)
    assert dispatched(made, 5.1) == []
    pairs.succeeded("p0", "d0", 5.2)
    assert len(dispatched(made, 5.2)) == 2


def test_a_request_follows_its_prefix_only_where_that_can_hand_over() -> None:
    pairs = book()
    made = scheduler(pairs)
    digests = list(range(40))
    made.arrive(request("first", 400, block_digests=digests))
    (first,) = dispatched(made, 0.0)
    made.prefill_over("first", 0.4)
    made.over("first", 0.5, 1)
    home = first.prefill_worker_id
    assert home is not None
    pairs.judge({(home, decode_id): "no" for decode_id in DECODES})
    made.arrive(request("again", 400, at_s=1.0, block_digests=digests))
    (again,) = dispatched(made, 1.0)
    assert again.prefill_worker_id != home


@given(
    st.sets(st.tuples(st.sampled_from(PREFILLS), st.sampled_from(DECODES))),
    st.lists(st.integers(1, 400), min_size=1, max_size=12),
)
def test_whatever_is_barred_everybody_else_is_served(
    barred: set[tuple[str, str]], lengths: list[int]
) -> None:
    made = scheduler(book(dict.fromkeys(barred, "no")))
    allowed = {(p, d) for p in PREFILLS for d in DECODES} - barred
    now_s, pairs = 0.0, []
    for n, length in enumerate(lengths):
        made.arrive(request(f"r{n}", length, at_s=now_s))
    for _ in range(3 * len(lengths)):
        for one in dispatched(made, now_s):
            pairs.append((one.prefill_worker_id, one.worker_id))
            made.prefill_over(one.request_id, now_s)
            made.over(one.request_id, now_s, None)
        now_s += 1.0
    assert set(pairs) <= allowed
    assert len(pairs) == (len(lengths) if allowed else 0)


# --- the way of the KV ---


def transfer(num_bytes: int, duration_s: float) -> WorkerReport:
    return WorkerReport(
        num_prefill_tokens=0,
        prefill_busy_s=0.0,
        decode_moments=(),
        mean_context_tokens=0.0,
        last_transfer_bytes=num_bytes,
        last_transfer_s=duration_s,
    )


def slow_models(transfer_s: float) -> LatencyModels:
    return LatencyModels(LatencyPrior(transfer_s=transfer_s, transfer_s_per_byte=1e-15))


def test_each_class_of_decode_workers_learns_its_own_transfer_time() -> None:
    near, far = plain_models(0.01), plain_models(0.01)
    made = Scheduler(SchedulerConfig(), plain_models())
    made.add_worker(worker("p0", Role.PREFILL))
    for worker_id, models in (("d0", near), ("d1", far)):
        made.add_worker(
            WorkerFacts(
                worker_id=worker_id, role=Role.DECODE, kv_capacity_tokens=1_000_000, models=models
            )
        )
    took_s = {"d0": 0.01, "d1": 0.3}
    for n in range(80):
        at_s = 10.0 * n
        made.set_usable("d0", n % 2 == 0)
        made.set_usable("d1", n % 2 == 1)
        made.arrive(request(f"r{n}", 100, at_s=at_s))
        (one,) = dispatched(made, at_s)
        made.prefill_over(one.request_id, at_s + 0.1)
        seen = made.report("p0", transfer(12_500_000, took_s[one.worker_id] + 1e-6 * n))
        assert seen is not None
        assert seen.observed_s == pytest.approx(took_s[one.worker_id], abs=1e-3)
        made.over(one.request_id, at_s + 1.0, None)
    assert near.transfer.predict_s(12_500_000) == pytest.approx(0.01, rel=0.2)
    assert far.transfer.predict_s(12_500_000) == pytest.approx(0.3, rel=0.2)


def test_before_the_decode_worker_is_known_the_slowest_class_counts() -> None:
    def slack_s(*transfers_s: float) -> float:
        made = Scheduler(SchedulerConfig(), plain_models())
        made.add_worker(worker("p0", Role.PREFILL))
        for n, transfer_s in enumerate(transfers_s):
            models = plain_models(transfer_s)
            made.add_worker(
                WorkerFacts(
                    worker_id=f"d{n}",
                    role=Role.DECODE,
                    kv_capacity_tokens=1_000_000,
                    models=models,
                )
            )
        made.arrive(request("a", 100, ttft_s=10.0))
        (one,) = dispatched(made, 0.0)
        return one.decision.slack_s

    assert slack_s(0.01) - slack_s(0.51) == pytest.approx(0.5)
    assert slack_s(0.01, 0.51) == pytest.approx(slack_s(0.51))


def test_a_class_that_has_left_counts_no_more() -> None:
    made = Scheduler(SchedulerConfig(), plain_models())
    made.add_worker(worker("p0", Role.PREFILL))
    for worker_id, models in (("d0", slow_models(0.01)), ("d1", slow_models(2.0))):
        made.add_worker(
            WorkerFacts(
                worker_id=worker_id, role=Role.DECODE, kv_capacity_tokens=1_000_000, models=models
            )
        )
    slack_s = []
    for n in range(2):
        made.arrive(request(f"r{n}", 100, at_s=n * 100.0, ttft_s=10.0))
        (one,) = dispatched(made, n * 100.0)
        slack_s.append(one.decision.slack_s)
        made.over(one.request_id, n * 100.0, None)
        made.remove_worker("d1")
    assert slack_s[1] - slack_s[0] == pytest.approx(2.0 - 0.01)
    assert not math.isinf(slack_s[0])
