"""Emulated prefill and decode workers whose hand-offs move real bytes."""

import asyncio
import itertools
from typing import Any, cast

import pytest
from hfx_transfer.kv.mover import PagedMover
from support.ask import Answer, Json, get, post
from support.emulators import CONTEXT_TOKENS, is_free, running_pair, running_worker, url_of
from support.router import eventually

from hfx_sgl.emulator.kv.settings import KvBackend, RealKv
from hfx_sgl.emulator.worker import Worker
from hfx_sgl.types import Role

BODY: Json = {
    "text": "the quick brown fox " * 40,
    "sampling_params": {"max_new_tokens": 6, "ignore_eos": True},
}
NUM_PROMPT_TOKENS = 200
PAGE_TOKENS = 16
TOKEN_BYTES = 512
REAL = RealKv(bytes_per_token=TOKEN_BYTES, pool_bytes=CONTEXT_TOKENS * TOKEN_BYTES)
Pair = tuple[Worker, Worker]

_ROOMS = itertools.count(1)


def real(backend: KvBackend = KvBackend.SOCKET) -> dict[str, Any]:
    kv = RealKv(backend=backend, bytes_per_token=TOKEN_BYTES, pool_bytes=REAL.pool_bytes)
    return {"real_kv": kv, "page_tokens": PAGE_TOKENS}


def mover_of(worker: Worker) -> PagedMover:
    return cast(PagedMover, worker.desk.mover)


def is_all_free(worker: Worker) -> bool:
    """Whether a worker holds no request and no page."""
    allocator = mover_of(worker).allocator
    return is_free(worker) and allocator.num_free == allocator.num_pages


async def assert_all_free(*workers: Worker, within_s: float = 5.0) -> None:
    assert await eventually(lambda: all(map(is_all_free, workers)), within_s=within_s)


def in_room(body: Json, prefill: Worker) -> Json:
    return {
        **body,
        "bootstrap_host": prefill.settings.host,
        "bootstrap_port": prefill.settings.bootstrap_port,
        "bootstrap_room": next(_ROOMS),
    }


async def ask_both(pair: Pair, body: Json) -> tuple[Answer, Answer]:
    full = in_room(body, pair[0])
    ours, theirs = await asyncio.gather(
        *(post(url_of(worker), "/generate", full) for worker in pair)
    )
    return ours, theirs


def held_pages(worker: Worker) -> int:
    allocator = mover_of(worker).allocator
    return allocator.num_pages - allocator.num_free


@pytest.mark.parametrize("backend", [KvBackend.SOCKET, KvBackend.SHM])
async def test_the_answer_is_the_same_and_the_bytes_have_arrived(backend: KvBackend) -> None:
    async with running_pair(**real(backend)) as pair, running_worker() as unified:
        prefill, decode = await ask_both(pair, BODY)
        alone = await post(url_of(unified), "/generate", BODY)
        assert (prefill.status, decode.status) == (200, 200)
        assert decode.body["output_ids"] == alone.body["output_ids"]
        await assert_all_free(*pair)
        # What was sent lies in the pages of both sides, each with a place of its own.
        sent, received = (worker_bytes(worker) for worker in pair)
        assert len(received - {bytes(PAGE_TOKENS * TOKEN_BYTES // 8)}) > 1
        assert sent == received


async def test_what_moved_is_counted_at_both_workers() -> None:
    async with running_pair(**real()) as pair, running_worker() as unified:
        await ask_both(pair, BODY)
        num_bytes = float(NUM_PROMPT_TOKENS * TOKEN_BYTES)
        for worker, direction in zip(pair, ("out", "in"), strict=True):
            text = str((await get(url_of(worker), "/metrics")).body)
            moved = f'hfx_transfer_bytes_total{{backend="socket",direction="{direction}"}}'
            assert f"{moved} {num_bytes}" in text
            assert 'hfx_transfer_duration_seconds_count{kind="kv",outcome="ok"} 1.0' in text
            assert "sglang:num_running_reqs" in text
        assert "hfx_transfer" not in str((await get(url_of(unified), "/metrics")).body)


def worker_bytes(worker: Worker) -> set[bytes]:
    """Return the content of all pages, one by one."""
    pool = mover_of(worker).pool
    page_bytes = PAGE_TOKENS * pool.layout.token_bytes
    [slab] = pool.slabs
    view = slab.view()
    return {bytes(view[at : at + page_bytes]) for at in range(0, slab.size_bytes, page_bytes)}


async def test_decode_waits_for_the_bytes_beyond_the_modelled_time() -> None:
    """The mover is held up: nothing is decoded, and the prefill has not answered either."""
    async with running_pair(**real()) as pair:
        prefill, decode = pair
        release = asyncio.Event()
        held = asyncio.to_thread(_hold, mover_of(prefill), asyncio.get_running_loop(), release)
        holding = asyncio.create_task(held)
        legs = asyncio.create_task(ask_both(pair, BODY))
        assert await eventually(lambda: prefill.driver.is_idle and held_pages(decode) > 0)
        await asyncio.sleep(0.2)
        assert not legs.done()
        assert decode.driver.load().num_running_reqs == 0
        release.set()
        await holding
        assert [answer.status for answer in await legs] == [200, 200]
        await assert_all_free(*pair)


def _hold(mover: PagedMover, loop: asyncio.AbstractEventLoop, until: asyncio.Event) -> None:
    """Keep the mover's thread busy until an event is set."""
    mover.later(lambda: asyncio.run_coroutine_threadsafe(_wait(until), loop).result(20.0))


async def _wait(event: asyncio.Event) -> None:
    await event.wait()


async def test_prompts_wait_for_memory_and_all_get_some() -> None:
    body = {**BODY, "text": "word" * 1500}
    async with running_pair(**real()) as pair:
        legs = await asyncio.gather(*(ask_both(pair, body) for _ in range(8)))
        assert {answer.status for both in legs for answer in both} == {200}
        await assert_all_free(*pair)


@pytest.mark.parametrize("side", [0, 1], ids=["prefill", "decode"])
async def test_an_abort_frees_both_sides(side: int) -> None:
    async with running_pair(**real()) as pair:
        pair[0].driver.set_extra_step_s(0.3)
        full = in_room({**BODY, "rid": "r"}, pair[0])
        legs = [asyncio.create_task(post(url_of(worker), "/generate", full)) for worker in pair]
        assert await eventually(lambda: any(s.is_granted for s in pair[0].desk.sequences))
        assert held_pages(pair[1]) == -(-NUM_PROMPT_TOKENS // PAGE_TOKENS)
        await post(url_of(pair[side]), "/abort_request", {"rid": "r"})
        answers = await asyncio.gather(*legs)
        assert answers[1].status == 500
        await assert_all_free(*pair)


async def test_an_abort_while_only_the_bytes_are_missing_frees_both_sides() -> None:
    async with running_pair(**real()) as pair:
        release = asyncio.Event()
        held = asyncio.to_thread(_hold, mover_of(pair[0]), asyncio.get_running_loop(), release)
        holding = asyncio.create_task(held)
        full = in_room({**BODY, "rid": "r"}, pair[0])
        legs = [asyncio.create_task(post(url_of(worker), "/generate", full)) for worker in pair]
        assert await eventually(lambda: pair[0].driver.is_idle and held_pages(pair[1]) > 0)
        await asyncio.sleep(0.1)
        await post(url_of(pair[1]), "/abort_request", {"rid": "r"})
        answers = await asyncio.gather(*legs)
        assert [answer.status for answer in answers] == [500, 500]
        release.set()
        await holding
        await assert_all_free(*pair)


@pytest.mark.parametrize("with_bytes", [0, 1], ids=["only the prefill", "only the decode"])
async def test_workers_that_do_not_agree_about_real_bytes_fail_at_once(with_bytes: int) -> None:
    options: list[dict[str, Any]] = [{"page_tokens": PAGE_TOKENS}] * 2
    options[with_bytes] = real()
    async with (
        running_worker(Role.PREFILL, **options[0]) as prefill,
        running_worker(Role.DECODE, **options[1]) as decode,
    ):
        answers = await ask_both((prefill, decode), BODY)
        assert [answer.status for answer in answers] == [500, 500]
        assert "only one of the two workers" in answers[0].body["message"]
