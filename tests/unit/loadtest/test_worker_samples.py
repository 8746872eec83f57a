from hfx_sgl.loadtest.server import samples_of
from hfx_sgl.results.run import WorkerSample

FIGURES = {"num_running_reqs": 3, "num_waiting_reqs": 1, "token_usage": 0.5}


def sample(worker: str, role: str) -> WorkerSample:
    return WorkerSample(
        at_s=2.0,
        worker=worker,
        role=role,
        num_running_reqs=3,
        num_waiting_reqs=1,
        token_usage=0.5,
    )


def test_as_a_router_lists_them() -> None:
    loads: list[object] = [
        {**FIGURES, "worker": "http://w:1", "worker_type": "prefill"},
        {**FIGURES, "worker": "http://w:2", "worker_type": "decode", "dp_rank": 1},
    ]
    assert list(samples_of(loads, 2.0)) == [
        sample("http://w:1", "prefill"),
        sample("http://w:2", "decode"),
    ]


def test_as_a_server_lists_its_ranks() -> None:
    loads: list[object] = [
        {**FIGURES, "dp_rank": 1, "disaggregation": {"mode": "decode"}},
        {**FIGURES, "dp_rank": 0, "disaggregation": {"mode": "null"}},
    ]
    assert list(samples_of(loads, 2.0)) == [sample("rank1", "decode"), sample("rank0", "regular")]


def test_entries_without_the_figures_are_passed_over() -> None:
    assert list(samples_of([None, {}, {**FIGURES, "token_usage": None}], 2.0)) == []
