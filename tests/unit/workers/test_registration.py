import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hfx_router.workers.jobs import JobState
from hfx_router.workers.probe import NotReady, ProbeOutcome, Refused, WorkerFacts
from hfx_router.workers.registration import Registrar
from hfx_router.workers.registry import Registry
from hfx_router.workers.worker import WorkerSpec

from hfx_sgl.errors import ConfigError, ConflictError, NotFoundError
from hfx_sgl.types import Role

RunVirtual = Callable[[Coroutine[Any, Any, None]], None]

SPEC = WorkerSpec(url="http://w:1")
FACTS = WorkerFacts(
    metadata={"tp_size": 2}, model_id="tiny", mode="null", dp_size=1, bootstrap_port=None
)


class FakeProbe:
    """Answers from a list; its last entry stays for ever. Notes when it was asked."""

    def __init__(self, outcomes: Sequence[ProbeOutcome | Exception]) -> None:
        self.outcomes = list(outcomes)
        self.asked_at_s: list[float] = []

    async def __call__(self, spec: WorkerSpec) -> ProbeOutcome:
        self.asked_at_s.append(asyncio.get_running_loop().time())
        outcome = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


def new_registrar(
    registry: Registry, *outcomes: ProbeOutcome | Exception, startup_timeout_s: float = 1800.0
) -> tuple[Registrar, FakeProbe]:
    probe = FakeProbe(outcomes or [FACTS])
    numbers = iter(range(100))
    registrar = Registrar(
        registry,
        probe,
        lambda: 1000.0,
        startup_timeout_s=startup_timeout_s,
        check_interval_s=2.0,
        drain_timeout_s=5.0,
        new_id=lambda: f"id{next(numbers)}",
    )
    return registrar, probe


def test_ready_worker_becomes_usable(registry: Registry, run_virtual: RunVirtual) -> None:
    registrar, _ = new_registrar(registry)

    async def main() -> None:
        worker_id = registrar.submit(replace(SPEC, url="http://w:1/"))
        job = registrar.jobs.get(worker_id)
        assert job is not None
        assert job.state is JobState.PENDING
        assert registry.workers == ()
        job = await registrar.settled(worker_id)
        assert job is not None
        assert job.state is JobState.COMPLETED
        (worker,) = registry.usable(Role.REGULAR)
        assert (worker.worker_id, worker.model_id, worker.shown_url) == (
            worker_id, "tiny", "http://w:1",
        )  # fmt: skip
        assert worker.metadata == {"tp_size": 2}
        assert worker.bootstrap_port is None

    run_virtual(main())


def test_starting_worker_is_asked_with_growing_pauses(
    registry: Registry, run_virtual: RunVirtual
) -> None:
    not_ready = NotReady(reason="refused")
    registrar, probe = new_registrar(registry, *[not_ready] * 6, FACTS)

    async def main() -> None:
        await registrar.settled(registrar.submit(SPEC))
        assert probe.asked_at_s == [0, 0.25, 0.75, 1.75, 3.75, 5.75, 7.75]
        assert len(registry.usable(Role.REGULAR)) == 1

    run_virtual(main())


def test_reason_is_shown_while_it_waits(registry: Registry, run_virtual: RunVirtual) -> None:
    registrar, _ = new_registrar(registry, NotReady(reason="still loading"))

    async def main() -> None:
        worker_id = registrar.submit(SPEC)
        await asyncio.sleep(1)
        job = registrar.jobs.get(worker_id)
        assert job is not None
        assert (job.state, job.message) == (JobState.PROCESSING, "still loading")
        await registrar.stop()

    run_virtual(main())


@pytest.mark.parametrize(
    ("outcome", "message"),
    [
        (NotReady(reason="connection refused"), "not ready after 60 s; last answer: connection"),
        (Refused(reason="runs as decode"), "runs as decode"),
        (RuntimeError("boom"), "internal error: RuntimeError: boom"),
    ],
)
def test_failure_keeps_its_reason(
    registry: Registry,
    run_virtual: RunVirtual,
    outcome: ProbeOutcome | Exception,
    message: str,
) -> None:
    registrar, _ = new_registrar(registry, outcome, startup_timeout_s=60.0)

    async def main() -> None:
        job = await registrar.settled(registrar.submit(SPEC))
        assert job is not None
        assert job.state is JobState.FAILED
        assert job.message is not None
        assert job.message.startswith(message)
        assert registry.workers == ()

    run_virtual(main())


def test_address_of_a_failed_worker_is_free_again(
    registry: Registry, run_virtual: RunVirtual
) -> None:
    registrar, _ = new_registrar(registry, Refused(reason="no"), FACTS)

    async def main() -> None:
        failed_id = registrar.submit(SPEC)
        await registrar.settled(failed_id)
        await registrar.settled(registrar.submit(SPEC))
        assert registrar.jobs.get(failed_id) is None
        assert len(registry.usable(Role.REGULAR)) == 1

    run_virtual(main())


@pytest.mark.parametrize("url", ["http://w:1", "http://w:1/", "http://W:1"])
def test_duplicate_is_refused_while_registering_and_after(
    registry: Registry, run_virtual: RunVirtual, url: str
) -> None:
    registrar, _ = new_registrar(registry)

    async def main() -> None:
        worker_id = registrar.submit(SPEC)
        with pytest.raises(ConflictError, match="registered already"):
            registrar.submit(replace(SPEC, url=url))
        await registrar.settled(worker_id)
        with pytest.raises(ConflictError) as refused:
            registrar.submit(replace(SPEC, url=url))
        assert refused.value.param == "url"
        await registrar.settled(registrar.submit(replace(SPEC, role=Role.DECODE)))
        assert len(registry.workers) == 2

    run_virtual(main())


def test_bad_url_is_refused_before_any_job(registry: Registry, run_virtual: RunVirtual) -> None:
    registrar, _ = new_registrar(registry)

    async def main() -> None:
        with pytest.raises(ConfigError, match="not a url"):
            registrar.submit(replace(SPEC, url="not a url"))
        assert registrar.jobs.items() == []

    run_virtual(main())


@pytest.mark.parametrize(
    ("given", "told", "used"), [(21900, 8000, 21900), (None, 21901, 21901), (None, None, 8998)]
)
def test_bootstrap_port_of_a_prefill(
    registry: Registry,
    run_virtual: RunVirtual,
    given: int | None,
    told: int | None,
    used: int,
) -> None:
    registrar, _ = new_registrar(registry, replace(FACTS, mode="prefill", bootstrap_port=told))

    async def main() -> None:
        spec = replace(SPEC, role=Role.PREFILL, bootstrap_port=given)
        await registrar.settled(registrar.submit(spec))
        (worker,) = registry.usable(Role.PREFILL)
        assert worker.bootstrap_port == used

    run_virtual(main())


def test_given_model_id_wins(registry: Registry, run_virtual: RunVirtual) -> None:
    registrar, _ = new_registrar(registry)

    async def main() -> None:
        await registrar.settled(registrar.submit(replace(SPEC, model_id="mine")))
        assert registry.workers[0].model_id == "mine"

    run_virtual(main())


@pytest.mark.parametrize(
    ("dp_aware", "dp_size", "ranks"),
    [(True, 3, [0, 1, 2]), (True, 1, [None]), (False, 3, [None])],
)
def test_dp_aware_server_becomes_one_worker_for_each_rank(
    registry: Registry,
    run_virtual: RunVirtual,
    dp_aware: bool,
    dp_size: int,
    ranks: list[int | None],
) -> None:
    registrar, _ = new_registrar(registry, replace(FACTS, dp_size=dp_size))

    async def main() -> None:
        worker_id = registrar.submit(replace(SPEC, dp_aware=dp_aware))
        await registrar.settled(worker_id)
        workers = registry.usable(Role.REGULAR)
        assert [worker.spec.dp_rank for worker in workers] == ranks
        assert workers[0].worker_id == worker_id
        assert len({worker.worker_id for worker in workers}) == len(ranks)

    run_virtual(main())


def test_idle_worker_is_removed_at_once(
    registry: Registry, forgotten: list[str], run_virtual: RunVirtual
) -> None:
    registrar, _ = new_registrar(registry)

    async def main() -> None:
        worker_id = registrar.submit(SPEC)
        await registrar.settled(worker_id)
        registrar.remove(worker_id)
        assert registry.workers == ()
        assert registrar.jobs.get(worker_id) is None
        assert forgotten == [worker_id]
        with pytest.raises(NotFoundError, match="not found"):
            registrar.remove(worker_id)

    run_virtual(main())


@pytest.mark.parametrize(("leg_s", "gone_at_s"), [(2.0, 2.0), (60.0, 5.0)])
def test_busy_worker_drains_until_its_legs_are_done_or_time_is_up(
    registry: Registry, run_virtual: RunVirtual, leg_s: float, gone_at_s: float
) -> None:
    registrar, _ = new_registrar(registry)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        worker_id = registrar.submit(SPEC)
        await registrar.settled(worker_id)
        (worker,) = registry.workers
        worker.num_inflight = 1
        loop.call_later(leg_s, setattr, worker, "num_inflight", 0)
        registrar.remove(worker_id)
        registrar.remove(worker_id)  # a second removal changes nothing
        assert registry.usable(Role.REGULAR) == ()
        assert registry.workers == (worker,)
        job = registrar.jobs.get(worker_id)
        assert job is not None
        assert job.state is JobState.PROCESSING
        readded = registrar.submit(SPEC)
        await registrar.settled(readded)
        assert [each.worker_id for each in registry.usable(Role.REGULAR)] == [readded]
        await registrar.settled(worker_id)
        assert loop.time() == pytest.approx(gone_at_s, abs=0.11)
        assert registry.get(worker_id) is None
        assert registrar.jobs.get(worker_id) is None

    run_virtual(main())


def test_removal_gives_up_a_registration(registry: Registry, run_virtual: RunVirtual) -> None:
    registrar, probe = new_registrar(registry, NotReady(reason="x"))

    async def main() -> None:
        worker_id = registrar.submit(SPEC)
        await asyncio.sleep(1)
        registrar.remove(worker_id)
        await asyncio.sleep(100)
        assert probe.asked_at_s[-1] < 1
        assert registrar.jobs.get(worker_id) is None
        probe.outcomes = [FACTS]
        await registrar.settled(registrar.submit(SPEC))
        assert len(registry.workers) == 1

    run_virtual(main())


def test_removal_before_the_first_probe(registry: Registry, run_virtual: RunVirtual) -> None:
    registrar, probe = new_registrar(registry)

    async def main() -> None:
        worker_id = registrar.submit(SPEC)
        registrar.remove(worker_id)
        await asyncio.sleep(1)
        assert probe.asked_at_s == []
        assert registry.workers == ()
        assert registrar.jobs.items() == []

    run_virtual(main())


def test_update_changes_the_spec(registry: Registry, run_virtual: RunVirtual) -> None:
    registrar, _ = new_registrar(registry)

    async def main() -> None:
        worker_id = registrar.submit(SPEC)
        with pytest.raises(ConflictError, match="still being registered"):
            registrar.update(worker_id, lambda spec: spec)
        await registrar.settled(worker_id)
        registrar.update(worker_id, lambda spec: replace(spec, priority=7))
        assert registry.workers[0].spec.priority == 7
        with pytest.raises(NotFoundError):
            registrar.update("other", lambda spec: spec)

    run_virtual(main())


def test_stop_leaves_no_task(registry: Registry, run_virtual: RunVirtual) -> None:
    registrar, _ = new_registrar(registry, NotReady(reason="x"))

    async def main() -> None:
        registrar.submit(SPEC)
        registrar.submit(replace(SPEC, url="http://v:1"))
        await asyncio.sleep(1)
        await registrar.stop()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run_virtual(main())
