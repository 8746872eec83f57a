"""Workers that are not equally fast."""

from collections import Counter
from collections.abc import Sequence

import pytest
from support.played_cluster import PlayedCluster
from support.scheduling import PAIRS, UNIFIED, dispatched, plain_models, request, worker

from hfx_sgl.policy.latency.models import LatencyModels
from hfx_sgl.policy.scheduler.config import SchedulerConfig
from hfx_sgl.policy.scheduler.facts import WorkerFacts, WorkerReport
from hfx_sgl.policy.scheduler.scheduler import Scheduler
from hfx_sgl.types import Role

S_PER_TOKEN = (1e-3, 3e-3)
"""Of the first worker and of the second."""
NUM_LESSONS = 40


def report(num_tokens: int, s_per_token: float) -> WorkerReport:
    return WorkerReport(
        num_prefill_tokens=num_tokens,
        prefill_busy_s=num_tokens * s_per_token,
        decode_moments=(),
        mean_context_tokens=0.0,
    )


def taught(facts: Sequence[WorkerFacts], models: LatencyModels | None = None) -> Scheduler:
    """Each of the first two has computed prompts, as fast as it is, and reported them."""
    scheduler = Scheduler(SchedulerConfig(times_workers=False), models or plain_models())
    for each in facts:
        scheduler.add_worker(each)
    totals = [1000, 1000]
    for position in (0, 1):
        scheduler.report(facts[position].worker_id, report(1000, S_PER_TOKEN[position]))
    for n in range(NUM_LESSONS):
        for position in (0, 1):
            taken, given = facts[1 - position].worker_id, facts[position].worker_id
            scheduler.set_usable(taken, False)
            name, at_s = f"{given}-{n}", 10.0 * n + 5.0 * position
            num_tokens = 200 + 20 * (n % 10)
            scheduler.arrive(request(name, num_tokens, at_s=at_s))
            (dispatch,) = dispatched(scheduler, at_s)
            assert (dispatch.prefill_worker_id or dispatch.worker_id) == given
            scheduler.prefill_over(name, at_s + 1.0)
            scheduler.over(name, at_s + 2.0, None)
            totals[position] += num_tokens
            scheduler.report(given, report(totals[position], S_PER_TOKEN[position]))
            scheduler.set_usable(taken, True)
    return scheduler


def facts_of(workers: Sequence[tuple[str, Role]]) -> list[WorkerFacts]:
    return [worker(worker_id, role) for worker_id, role in workers]


@pytest.mark.parametrize("workers", [UNIFIED, PAIRS])
def test_a_slow_worker_gets_fewer_prompts(workers: Sequence[tuple[str, Role]]) -> None:
    cluster = PlayedCluster(taught(facts_of(workers)))
    now_s = 10.0 * NUM_LESSONS
    cluster.run([request(f"r{n}", 200, at_s=now_s) for n in range(80)])
    counts = Counter(
        dispatch.prefill_worker_id or dispatch.worker_id for _, dispatch in cluster.sent
    )
    fast, slow = counts[workers[0][0]], counts[workers[1][0]]
    assert fast + slow == 80
    assert 2.3 <= fast / slow <= 3.7


@pytest.mark.parametrize("workers", [UNIFIED, PAIRS])
def test_prompts_are_predicted_for_the_worker_that_gets_them(
    workers: Sequence[tuple[str, Role]],
) -> None:
    scheduler = taught(facts_of(workers))
    at_s = 10.0 * NUM_LESSONS
    for name in "ab":
        scheduler.arrive(request(name, 300, at_s=at_s))
    by_worker = {
        dispatch.prefill_worker_id or dispatch.worker_id: dispatch.predicted_prefill_s
        for dispatch in dispatched(scheduler, at_s)
    }
    # Within the range of 10 % in which workers count as equal.
    assert by_worker[workers[1][0]] == pytest.approx(3 * by_worker[workers[0][0]], rel=0.15)


@pytest.mark.parametrize("workers", [UNIFIED, PAIRS])
def test_a_slow_worker_adds_less_to_what_can_be_kept(workers: Sequence[tuple[str, Role]]) -> None:
    scheduler = taught(facts_of(workers))
    at_s = 10.0 * NUM_LESSONS
    pool = scheduler._prefillers
    pool.settle(at_s)
    start_s, speed = pool.capacity(at_s)
    assert start_s == at_s
    fast = pool.states[workers[0][0]].latency.prefill_speed.factor
    assert speed * fast == pytest.approx(1 + 1 / 3, rel=0.05)


def test_classes_of_workers_learn_apart() -> None:
    fast, slow = plain_models(), plain_models()
    facts = [
        WorkerFacts(worker_id=worker_id, role=Role.REGULAR, kv_capacity_tokens=10**6, models=models)
        for worker_id, models in (("u0", fast), ("u1", slow))
    ]
    common = plain_models()
    taught(facts, common)
    for models, s_per_token in zip((fast, slow), S_PER_TOKEN, strict=True):
        assert models.prefill.fit.num_observations == NUM_LESSONS
        assert models.prefill.predict_s(300, 0) == pytest.approx(300 * s_per_token, rel=0.05)
    assert common.prefill.fit.num_observations == 0


def test_workers_without_a_class_learn_together() -> None:
    common = plain_models()
    taught(facts_of(UNIFIED), common)
    assert common.prefill.fit.num_observations == 2 * NUM_LESSONS
