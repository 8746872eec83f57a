"""Prefill in one process, decode in another: the tokens are those of one process alone."""

import itertools
import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection

import pytest
from hfx_transfer.engine.protocol import Backend
from hfx_transfer.kv.layout import KvDtype
from support.kv_case import WAIT_S, KvCase, generate_in_one_process, run_decode, run_prefill
from support.loopback import in_loopback

DTYPES = (KvDtype.FLOAT32, KvDtype.BFLOAT16, KvDtype.FLOAT16)
PAGE_TOKENS = (1, 4, 16, 64)
BATCHES = ((5,), (1, 17, 64), (70, 33))

SAME_PAGES = [
    KvCase(
        dtype=dtype,
        prompt_lengths=lengths,
        prefill_page_tokens=page_tokens,
        decode_page_tokens=page_tokens,
    )
    for dtype, page_tokens, lengths in itertools.product(DTYPES, PAGE_TOKENS, BATCHES)
]
OTHER_PAGES = [
    KvCase(
        dtype=KvDtype.BFLOAT16,
        prompt_lengths=(1, 17, 64),
        prefill_page_tokens=prefill,
        decode_page_tokens=decode,
        num_slabs=3,
    )
    for prefill, decode in ((1, 64), (16, 4), (64, 16))
]


@contextmanager
def pair(backend: Backend) -> Iterator[tuple[Connection, Connection]]:
    """Start a prefill and a decode process."""
    context = multiprocessing.get_context("spawn")
    ends, processes = [], []
    for run in (run_prefill, run_decode):
        here, there = context.Pipe()
        process = context.Process(target=run, args=(there, backend), daemon=True)
        process.start()
        there.close()
        ends.append(here)
        processes.append(process)
    try:
        yield ends[0], ends[1]
        for end in ends:
            end.send(None)
        for process in processes:
            process.join(WAIT_S)
            assert process.exitcode == 0
    finally:
        for process in processes:
            process.kill()
            process.join()


def receive(end: Connection) -> object:
    assert end.poll(WAIT_S), "no answer"
    return end.recv()


def check(backend: Backend, cases: list[KvCase]) -> None:
    with pair(backend) as (prefill, decode):
        for case in cases:
            decode.send(case)
            prefill.send((case, receive(decode)))
            num_bytes = receive(prefill)
            outputs = receive(decode)
            assert outputs == generate_in_one_process(case), case
            assert num_bytes == sum(case.prompt_lengths) * 3 * 2 * 2 * 8 * case.dtype.size_bytes


@pytest.mark.slow
@in_loopback
def test_over_mooncake() -> None:
    check(Backend.MOONCAKE, SAME_PAGES + OTHER_PAGES)


@pytest.mark.slow
@pytest.mark.parametrize("backend", [Backend.SOCKET, Backend.SHM])
def test_over_other_backends(backend: Backend) -> None:
    check(backend, SAME_PAGES + OTHER_PAGES)


def test_other_kv_gives_other_tokens() -> None:
    """Else the tests above would prove nothing."""
    lengths = (70, 33)
    outputs = [
        generate_in_one_process(
            KvCase(dtype=dtype, prompt_lengths=lengths, prefill_page_tokens=4, decode_page_tokens=4)
        )
        for dtype in DTYPES
    ]
    for output in outputs:
        assert all(len(set(tokens)) > 3 for tokens in output)
    assert outputs[0][0] != outputs[0][1]
