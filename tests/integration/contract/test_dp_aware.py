"""Routing to the data-parallel ranks of a server: which ranks each leg is told."""

from collections import Counter

import pytest
from support.engine import EngineState
from support.mock_worker import RecordingWorker
from support.router import RunningRouter, pd_flags, running_router


def _ranks(role: str = "null", dp_size: int = 2) -> RecordingWorker:
    return RecordingWorker(state=EngineState(disaggregation_mode=role, dp_size=dp_size))


async def test_every_rank_gets_its_share_and_is_named_at_the_end_of_the_body() -> None:
    async with (
        _ranks() as worker,
        running_router("--dp-aware", "--worker-urls", worker.url) as router,
    ):
        for _ in range(4):
            await router.post("/generate", b'{"text": "hi", "x":1e3}')
        bodies = Counter(request.body for request in worker.requests_for("/generate"))
        assert bodies == {
            b'{"text": "hi", "x":1e3,"routed_dp_rank":0}': 2,
            b'{"text": "hi", "x":1e3,"routed_dp_rank":1}': 2,
        }
        assert [w.shown_url for w in router.router.registry.workers] == [
            f"{worker.url}@0",
            f"{worker.url}@1",
        ]


@pytest.mark.parametrize(
    "sent",
    [
        b'{"routed_dp_rank":7,"text":"hi"}',
        b'{"text":"hi","data_parallel_rank":7}',
        rb'{"routed_dp\u005frank":7,"text":"hi","data_parallel_rank":null}',
    ],
)
async def test_a_clients_choice_of_rank_is_replaced(sent: bytes) -> None:
    async with (
        _ranks() as worker,
        running_router("--dp-aware", "--worker-urls", worker.url) as router,
    ):
        await router.post("/generate", sent)
        assert worker.requests_for("/generate")[0].body == b'{"text":"hi","routed_dp_rank":0}'


async def test_one_rank_is_the_whole_server() -> None:
    async with (
        _ranks(dp_size=1) as worker,
        running_router("--dp-aware", "--worker-urls", worker.url) as router,
    ):
        await router.post("/generate", b'{"text":"hi"}')
        assert worker.requests_for("/generate")[0].body == b'{"text":"hi"}'


async def test_without_dp_aware_no_rank_is_named() -> None:
    async with _ranks() as worker, running_router("--worker-urls", worker.url) as router:
        await router.post("/generate", b'{"text":"hi"}')
        assert worker.requests_for("/generate")[0].body == b'{"text":"hi"}'
        assert len(router.router.registry.workers) == 1


@pytest.mark.parametrize(("prefill_size", "decode_size"), [(2, 2), (2, 1), (1, 2), (1, 1)])
async def test_the_decode_learns_the_rank_of_its_prefill(
    prefill_size: int, decode_size: int
) -> None:
    async with (
        _ranks("prefill", prefill_size) as prefill,
        _ranks("decode", decode_size) as decode,
        running_router("--dp-aware", *pd_flags([prefill], [decode])) as router,
    ):
        seen = set()
        for _ in range(4):
            seen.add(await _ranks_of_one_request(router, prefill, decode))
        expected_prefill = {0, 1} if prefill_size == 2 else {None}
        expected_decode = {0, 1} if decode_size == 2 else {None}
        assert {ranks[0] for ranks in seen} == expected_prefill
        assert {ranks[1] for ranks in seen} == expected_decode


async def _ranks_of_one_request(
    router: RunningRouter, prefill: RecordingWorker, decode: RecordingWorker
) -> tuple[int | None, int | None]:
    """Return the ranks of both legs, having checked what each leg was told."""
    await router.post(
        "/generate", b'{"text":"hi","routed_dp_rank":9,"disagg_prefill_dp_rank":9,"a":0.70}'
    )
    bodies = [worker.requests_for("/generate")[-1].json() for worker in (prefill, decode)]
    prefill_rank, decode_rank = (body.pop("routed_dp_rank", 9) for body in bodies)
    assert bodies[1].pop("disagg_prefill_dp_rank", 9) == prefill_rank
    assert bodies[0] == bodies[1]
    raw = prefill.requests_for("/generate")[-1].body
    if prefill_rank == 9 and decode_rank == 9:  # nobody chooses: the client may
        assert raw.startswith(b'{"text":"hi","routed_dp_rank":9,"a":0.70,"bootstrap_host"')
        return None, None
    assert raw.startswith(b'{"text":"hi","a":0.70,"bootstrap_host":')
    return tuple(None if rank == 9 else rank for rank in (prefill_rank, decode_rank))  # type: ignore[return-value]
