"""A scrape succeeds whatever is wrong with a worker or its name."""

from collections.abc import Callable
from typing import Any

import pytest
from hfx_router.workers.worker import Worker
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from hfx_sgl.types import Role

MakeWorker = Callable[..., Worker]
GOOD = "http://good:1"


def lose_breaker(worker: Worker) -> None:
    del worker.breaker


def unknown_state(worker: Worker) -> None:
    worker.breaker.state = "exploded"  # type: ignore[assignment]


def text_for_a_count(worker: Worker) -> None:
    worker.num_inflight = "many"  # type: ignore[assignment]


def nothing_for_a_count(worker: Worker) -> None:
    worker.num_ok = None  # type: ignore[assignment]


@pytest.mark.parametrize(
    "spoil", [lose_breaker, unknown_state, text_for_a_count, nothing_for_a_count]
)
def test_an_unreadable_worker_is_left_out_and_counted(
    bench: Any, make_worker: MakeWorker, spoil: Callable[[Worker], None]
) -> None:
    bad = make_worker("http://bad:1")
    spoil(bad)
    bench.workers = (bad, make_worker(GOOD))
    text = generate_latest(bench.registry).decode()
    assert f'smg_worker_health{{worker="{GOOD}"}} 1.0' in text
    assert "http://bad:1" not in text
    assert bench.value("hfx_worker_unreadable_records") == 1


def test_all_readable(bench: Any, make_worker: MakeWorker) -> None:
    bench.workers = (make_worker(GOOD),)
    assert bench.value("hfx_worker_unreadable_records") == 0


def test_no_series_appears_twice(bench: Any, make_worker: MakeWorker) -> None:
    bench.workers = (make_worker(GOOD, Role.PREFILL), make_worker(GOOD, Role.DECODE))
    lines = generate_latest(bench.registry).decode().splitlines()
    series = [line.rsplit(" ", 1)[0] for line in lines if not line.startswith("#")]
    assert len(series) == len(set(series))
    pool = {"worker_type": "decode", "connection_mode": "http", "model": "tiny"}
    assert bench.value("smg_worker_pool_size", **pool) == 1


@pytest.mark.parametrize(
    "model", ['quo"te', "back\\slash", "line\nbreak", "snow☃", "lone\ud800surrogate", "x" * 100_000]
)
def test_any_model_id_survives_the_text_format(
    bench: Any, make_worker: MakeWorker, model: str
) -> None:
    bench.workers = (make_worker(GOOD, model_id=model),)
    text = generate_latest(bench.registry).decode()
    assert len(text) < 50_000
    pools = [
        sample.labels["model"]
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "smg_worker_pool_size"
    ]
    assert pools == [model.replace("\ud800", "?")[:256]]
