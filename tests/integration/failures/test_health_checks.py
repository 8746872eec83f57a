"""Workers that fail their health checks get no requests, and get them again when they recover."""

import asyncio

import pytest
from support.mock_worker import RecordingWorker
from support.router import eventually, one_worker, pd_flags, running_router
from support.script import answer, stalled

OFTEN: dict[str, float] = {"health_check_interval_secs": 0.02, "health_check_timeout_secs": 0.1}
THRESHOLDS = ("--health-failure-threshold", "2", "--health-success-threshold", "2")


async def test_a_sick_worker_leaves_and_comes_back() -> None:
    async with one_worker(*THRESHOLDS, **OFTEN) as (router, worker):
        record = router.worker(worker)
        worker.state.health_status = 503
        assert await eventually(lambda: not record.health.is_healthy)
        refused = await router.post()
        assert refused.status == 503
        assert refused.header("retry-after") is not None
        worker.state.health_status = 200
        assert await eventually(lambda: record.health.is_healthy)
        assert (await router.post()).status == 200


async def test_one_failed_check_is_not_enough() -> None:
    async with one_worker("--health-failure-threshold", "3", **OFTEN) as (router, worker):
        await worker.wait_requests(2, path="/health")
        worker.queue(answer(status=503), answer(status=503), path="/health")
        num_checks = len(worker.requests_for("/health"))
        await worker.wait_requests(num_checks + 4, path="/health")
        assert router.worker(worker).health.is_healthy


async def test_a_check_without_an_answer_fails() -> None:
    async with one_worker(*THRESHOLDS, **OFTEN) as (router, worker):
        worker.queue(*[stalled()] * 2, path="/health")
        assert await eventually(lambda: not router.worker(worker).health.is_healthy)


async def test_a_failed_request_brings_the_check_forward(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hfx_router.workers.health_loop.SUSPICION_SPACING_S", 0.0)
    async with one_worker("--disable-retries") as (router, worker):
        num_checks = len(worker.requests_for("/health"))
        worker.queue(answer(status=500))
        await router.post()
        await worker.wait_requests(num_checks + 1, path="/health")


@pytest.mark.parametrize("role", ["prefill", "decode"])
async def test_a_dead_workers_role_is_taken_over_by_the_other(role: str) -> None:
    async with (
        RecordingWorker(role="prefill") as prefill_1,
        RecordingWorker(role="prefill") as prefill_2,
        RecordingWorker(role="decode") as decode_1,
        RecordingWorker(role="decode") as decode_2,
        running_router(
            *pd_flags([prefill_1, prefill_2], [decode_1, decode_2]), *THRESHOLDS, **OFTEN
        ) as router,
    ):
        dead, heir = (prefill_1, prefill_2) if role == "prefill" else (decode_1, decode_2)
        for _ in range(4):
            assert (await router.post()).status == 200
        assert len(dead.requests_for("/generate")) == 2
        await dead.stop(is_reset=True)
        answers = [await router.post() for _ in range(4)]  # retried where they meet the dead one
        assert [received.status for received in answers] == [200] * 4
        assert await eventually(lambda: not router.worker(dead).health.is_healthy)
        num_before = len(heir.requests_for("/generate"))
        assert [(await router.post()).status for _ in range(4)] == [200] * 4
        assert len(heir.requests_for("/generate")) == num_before + 4
        await dead.start()
        assert await eventually(lambda: router.worker(dead).health.is_healthy)
        assert await eventually(lambda: router.worker(dead).breaker.allows)
        # Not before it has told whether it is what it was.
        assert await eventually(lambda: not router.router.pairs.barred)
        num_before = len(dead.requests_for("/generate"))
        await asyncio.gather(*(router.post() for _ in range(4)))
        assert len(dead.requests_for("/generate")) == num_before + 2


async def test_a_removed_worker_finishes_what_it_has_begun() -> None:
    gate = asyncio.Event()
    async with one_worker() as (router, worker):
        worker.queue(answer(body=b'{"done":1}', gate=gate))
        asking = asyncio.create_task(router.post())
        await worker.wait_requests(1, path="/generate")
        router.router.registrar.remove(router.worker(worker).worker_id)
        assert (await router.post()).status == 503
        gate.set()
        assert bytes((await asking).body) == b'{"done":1}'
        assert await eventually(lambda: router.router.registry.workers == ())
