from collections.abc import Callable
from typing import Any

import pytest
from hfx_router.workers.worker import Worker

from hfx_sgl.types import Role

MakeWorker = Callable[..., Worker]
URL = "http://10.0.0.1:30000"


def test_pools_and_selections_by_role_and_model(bench: Any, make_worker: MakeWorker) -> None:
    one = make_worker("http://a:1", Role.DECODE)
    two = make_worker("http://b:1", Role.DECODE)
    three = make_worker("http://c:1", Role.PREFILL)
    one.num_selected, two.num_selected, three.num_selected = 3, 4, 5
    two.is_probed = False
    bench.workers = (one, two, three)

    decode = {"worker_type": "decode", "connection_mode": "http", "model": "tiny"}
    prefill = {**decode, "worker_type": "prefill"}
    assert bench.value("smg_worker_pool_size", **decode) == 2
    assert bench.value("smg_worker_pool_size", **prefill) == 1
    selections = "smg_worker_selection_total"
    assert bench.value(selections, **decode, policy="power_of_two") == 7
    assert bench.value(selections, **prefill, policy="cache_aware") == 5


def test_selections_survive_the_worker(bench: Any, make_worker: MakeWorker) -> None:
    stays, leaves = make_worker("http://a:1"), make_worker("http://b:1")
    stays.num_selected, leaves.num_selected = 2, 40
    bench.workers = (stays,)
    bench.recorder.worker_left(leaves.role, leaves.model_id, leaves.num_selected)
    labels = {"worker_type": "regular", "connection_mode": "http", "model": "tiny"}
    assert bench.value("smg_worker_selection_total", **labels, policy="round_robin") == 42


def test_one_worker_in_numbers(bench: Any, make_worker: MakeWorker) -> None:
    worker = make_worker(URL, Role.DECODE)
    worker.num_inflight, worker.num_ok, worker.num_failed = 4, 30, 2
    worker.breaker.record_failure(0.0)
    worker.breaker.record_failure(0.5)
    bench.workers = (worker,)

    assert bench.value("smg_worker_health", worker=URL) == 1
    assert bench.value("smg_worker_requests_active", worker=URL) == 4
    assert bench.value("hfx_worker_inflight_requests", worker=URL, role="decode") == 4
    assert bench.value("smg_worker_cb_outcomes_total", worker=URL, outcome="success") == 30
    assert bench.value("smg_worker_cb_outcomes_total", worker=URL, outcome="failure") == 2
    assert bench.value("smg_worker_cb_consecutive_failures", worker=URL) == 2
    assert bench.value("smg_worker_cb_consecutive_successes", worker=URL) == 0


def test_breaker_states_and_transitions(bench: Any, make_worker: MakeWorker) -> None:
    worker = make_worker(URL)
    bench.workers = (worker,)
    states = [bench.value("smg_worker_cb_state", worker=URL)]
    worker.breaker.record_failure(0.0)
    states.append(bench.value("smg_worker_cb_state", worker=URL))
    worker.breaker.poll(5.0)
    states.append(bench.value("smg_worker_cb_state", worker=URL))
    worker.breaker.record_success(6.0)
    states.append(bench.value("smg_worker_cb_state", worker=URL))
    assert states == [0, 1, 2, 0]
    total = "smg_worker_cb_transitions_total"
    for old, new in (("closed", "open"), ("open", "half_open"), ("half_open", "closed")):
        assert bench.value(total, worker=URL, **{"from": old, "to": new}) == 1


def drain(worker: Worker) -> None:
    worker.is_draining = True


def unprobe(worker: Worker) -> None:
    worker.is_probed = False


def fail_checks(worker: Worker) -> None:
    for _ in range(3):
        worker.health.record(False)


def open_breaker(worker: Worker) -> None:
    worker.breaker.record_failure(0.0)


@pytest.mark.parametrize(
    ("events", "state"),
    [
        ([], "ready"),
        ([open_breaker], "ejected"),
        ([open_breaker, fail_checks], "unhealthy"),
        ([open_breaker, fail_checks, unprobe], "starting"),
        ([open_breaker, fail_checks, unprobe, drain], "draining"),
    ],
)
def test_a_worker_is_in_one_state(
    bench: Any, make_worker: MakeWorker, events: list[Callable[[Worker], None]], state: str
) -> None:
    worker = make_worker(URL)
    for event in events:
        event(worker)
    bench.workers = (worker,)
    values = {
        sample.labels["state"]: sample.value
        for sample in bench.families()["hfx_worker_state"].samples
    }
    assert len(values) == 5
    assert {name for name, value in values.items() if value == 1} == {state}
    assert bench.value("smg_worker_health", worker=URL) == (fail_checks not in events)


def test_ranks_are_workers_of_their_own(bench: Any, make_worker: MakeWorker) -> None:
    bench.workers = (make_worker(URL, dp_rank=0), make_worker(URL, dp_rank=1))
    assert bench.value("smg_worker_health", worker=f"{URL}@0") == 1
    assert bench.value("smg_worker_health", worker=f"{URL}@1") == 1


def test_errors_by_contract_and_in_detail(bench: Any) -> None:
    for kind in ("connect", "reset", "timeout", "protocol", "server_error"):
        bench.recorder.worker_errors[Role.DECODE, kind] += 1
    labels = {"worker_type": "decode", "connection_mode": "http"}
    assert bench.value("smg_worker_errors_total", **labels, error_type="backend_error") == 4
    assert bench.value("smg_worker_errors_total", **labels, error_type="timeout") == 1
    assert bench.value("hfx_worker_errors_total", role="decode", kind="reset") == 1


def test_health_checks_and_aborts(bench: Any) -> None:
    bench.recorder.health_checks[Role.PREFILL, "failure"] += 3
    bench.recorder.aborts[Role.DECODE, "sent"] += 2
    name = "smg_worker_health_checks_total"
    assert bench.value(name, worker_type="prefill", result="failure") == 3
    assert bench.value("hfx_router_aborts_total", role="decode", outcome="sent") == 2


def test_the_model_label_follows_the_pool(bench: Any, make_worker: MakeWorker) -> None:
    bench.recorder.answered("/generate", False, 200, "", 0.1)

    def models() -> set[str]:
        return {dict(labels)["model"] for labels in bench.label_sets("hfx_router_requests_total")}

    nameless = make_worker("http://n:1", model_id=None)
    bench.workers = (nameless,)
    assert models() == {"default"}
    bench.workers = (nameless, make_worker("http://a:1"), make_worker("http://b:1"))
    assert models() == {"tiny"}
    bench.workers = ()
    assert models() == {"tiny"}
    bench.workers = (make_worker("http://a:1"), make_worker("http://b:1", model_id="big"))
    assert models() == {"other"}
