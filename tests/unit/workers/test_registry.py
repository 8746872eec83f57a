import pytest
from hfx_router.workers.registry import Registry
from hfx_router.workers.worker import HealthOverrides, Worker, WorkerSpec

from hfx_sgl.clock import FakeClock
from hfx_sgl.types import Role


def add(registry: Registry, name: str, role: Role = Role.REGULAR) -> Worker:
    worker = registry.new_worker(name, WorkerSpec(url=f"http://{name}:1", role=role))
    worker.is_probed = True
    registry.add(worker)
    return worker


def ids(workers: tuple[Worker, ...]) -> list[str]:
    return [worker.worker_id for worker in workers]


def test_usable_lists_each_pool_in_the_order_of_registration(registry: Registry) -> None:
    for name, role in [("p1", Role.PREFILL), ("d1", Role.DECODE), ("p2", Role.PREFILL)]:
        add(registry, name, role)
    assert ids(registry.usable(Role.PREFILL)) == ["p1", "p2"]
    assert ids(registry.usable(Role.DECODE)) == ["d1"]
    assert registry.usable(Role.REGULAR) == ()
    assert ids(registry.workers) == ["p1", "d1", "p2"]


def test_usable_is_cached_until_something_changes(registry: Registry) -> None:
    worker = add(registry, "a")
    before = registry.usable(Role.REGULAR)
    registry.record_success(worker)
    registry.record_failure(worker)
    assert registry.usable(Role.REGULAR) is before
    registry.drain(worker)
    assert registry.usable(Role.REGULAR) == ()


def test_worker_that_was_not_probed_is_listed_and_not_usable(registry: Registry) -> None:
    registry.add(registry.new_worker("a", WorkerSpec(url="http://a:1")))
    assert ids(registry.workers) == ["a"]
    assert registry.usable(Role.REGULAR) == ()


def test_breaker_opens_half_opens_and_closes(registry: Registry, clock: FakeClock) -> None:
    worker, other = add(registry, "a"), add(registry, "b")
    for _ in range(3):
        registry.record_failure(worker)
    assert registry.usable(Role.REGULAR) == (other,)
    clock.advance(9.9)
    registry.poll()
    assert registry.usable(Role.REGULAR) == (other,)
    clock.advance(0.2)
    registry.poll()
    assert registry.usable(Role.REGULAR) == (worker, other)
    registry.record_failure(worker)
    assert registry.usable(Role.REGULAR) == (other,)
    clock.advance(10.1)
    registry.poll()
    registry.record_success(worker)
    registry.record_success(worker)
    assert worker.breaker.state == "closed"
    assert (worker.num_ok, worker.num_failed) == (2, 4)


def test_suspicion_never_touches_the_breaker(registry: Registry) -> None:
    worker = add(registry, "a")
    suspected: list[Worker] = []
    registry.on_suspect = suspected.append
    for _ in range(100):
        registry.suspect(worker)
    assert suspected == [worker] * 100
    assert worker.breaker.consecutive_failures == 0
    assert worker.num_failed == 0
    assert registry.usable(Role.REGULAR) == (worker,)


def test_transport_failure_casts_doubt_on_the_worker(registry: Registry) -> None:
    worker = add(registry, "a")
    suspected: list[Worker] = []
    registry.on_suspect = suspected.append
    registry.record_failure(worker)
    assert suspected == [worker]


def test_failures_of_one_leg_leave_the_other_pool_alone(registry: Registry) -> None:
    prefill, decode = add(registry, "p", Role.PREFILL), add(registry, "d", Role.DECODE)
    for _ in range(3):
        registry.record_failure(decode)
    assert registry.usable(Role.DECODE) == ()
    assert registry.usable(Role.PREFILL) == (prefill,)


def test_health_thresholds_decide(registry: Registry) -> None:
    worker = add(registry, "a")
    for is_alive in (False, False, True, False, False):
        registry.record_check(worker, is_alive)
    assert registry.usable(Role.REGULAR) == (worker,)
    registry.record_check(worker, False)
    assert registry.usable(Role.REGULAR) == ()
    registry.record_check(worker, True)
    assert registry.usable(Role.REGULAR) == ()
    registry.record_check(worker, True)
    assert registry.usable(Role.REGULAR) == (worker,)


def test_thresholds_of_one_worker_replace_the_routers(registry: Registry) -> None:
    worker = add(registry, "a")
    for _ in range(3):
        registry.record_check(worker, False)
    spec = WorkerSpec(url="http://a:1", health=HealthOverrides(failure_threshold=1))
    registry.update(worker, spec)
    assert registry.usable(Role.REGULAR) == (worker,)
    registry.record_check(worker, False)
    assert registry.usable(Role.REGULAR) == ()


def test_update_without_new_thresholds_keeps_the_verdict(registry: Registry) -> None:
    worker = add(registry, "a")
    for _ in range(3):
        registry.record_check(worker, False)
    registry.update(worker, WorkerSpec(url="http://a:1", priority=7))
    assert worker.spec.priority == 7
    assert not worker.health.is_healthy


def test_disabling_the_checks_brings_an_unhealthy_worker_back(registry: Registry) -> None:
    worker = add(registry, "a")
    for _ in range(3):
        registry.record_check(worker, False)
    registry.update(worker, WorkerSpec(url="http://a:1", disable_health_check=True))
    assert registry.usable(Role.REGULAR) == (worker,)


def test_removed_worker_is_gone_at_once_and_forgotten(
    registry: Registry, forgotten: list[str]
) -> None:
    worker = add(registry, "a")
    worker.num_inflight = 2
    registry.remove("a")
    assert registry.usable(Role.REGULAR) == ()
    assert registry.workers == ()
    assert registry.get("a") is None
    assert forgotten == ["a"]
    registry.record_success(worker)
    registry.record_failure(worker)
    registry.remove("a")
    assert forgotten == ["a"]
    assert worker.num_inflight == 2


@pytest.mark.parametrize("action", ["add", "drain", "remove", "breaker", "health"])
def test_listeners_hear_of_every_change(registry: Registry, action: str) -> None:
    worker = add(registry, "a")
    seen: list[tuple[Worker, ...]] = []
    registry.subscribe(lambda: seen.append(registry.usable(Role.REGULAR)))
    match action:
        case "add":
            other = add(registry, "b")
            assert seen == [(worker, other)]
        case "drain":
            registry.drain(worker)
            assert seen == [()]
        case "remove":
            registry.remove("a")
            assert seen == [()]
        case "breaker":
            for _ in range(3):
                registry.record_failure(worker)
            assert seen == [()]
        case "health":
            for _ in range(3):
                registry.record_check(worker, False)
            assert seen == [()]
