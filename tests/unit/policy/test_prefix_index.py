import itertools
import random

import pytest

from hfx_sgl.policy.fakes import make_workers
from hfx_sgl.policy.prefix_index import (
    BLOCK_BYTES,
    MAX_INDEXED_BYTES,
    PrefixIndex,
    block_digests,
)

RNG_SEED = 3


def text(num_blocks: float, seed: int = RNG_SEED) -> bytes:
    return random.Random(seed).randbytes(int(num_blocks * BLOCK_BYTES))


def index_of(max_blocks: int, interval_s: float = 60.0) -> PrefixIndex:
    return PrefixIndex(max_blocks * BLOCK_BYTES, interval_s)


def match(index: PrefixIndex, prompt: bytes, worker_id: str = "w0") -> int:
    worker = next(w for w in make_workers(0, 0, 0) if w.worker_id == worker_id)
    return index.best_match(block_digests(prompt), [worker])[0]


@pytest.mark.parametrize(("num_blocks", "expected"), [(0, 0), (0.9, 0), (1, 1), (2.5, 2), (3, 3)])
def test_only_whole_blocks_have_a_digest(num_blocks: float, expected: int) -> None:
    assert len(block_digests(text(num_blocks))) == expected


def test_only_the_beginning_is_indexed() -> None:
    assert len(block_digests(bytes(3 * MAX_INDEXED_BYTES))) == MAX_INDEXED_BYTES // BLOCK_BYTES


def test_a_digest_depends_on_everything_before_it() -> None:
    prompt = text(3)
    changed = b"x" + prompt[1:]
    assert block_digests(prompt[: 2 * BLOCK_BYTES]) == block_digests(prompt)[:2]
    assert not set(block_digests(prompt)) & set(block_digests(changed))


def test_equal_blocks_at_different_depths_differ() -> None:
    assert len(set(block_digests(bytes(4 * BLOCK_BYTES)))) == 4


def test_match_is_the_common_beginning() -> None:
    index = index_of(100)
    index.remember("w0", block_digests(text(10)))
    assert match(index, text(10)) == 10
    assert match(index, text(10) + text(3, seed=9)) == 10
    assert match(index, text(10)[: 7 * BLOCK_BYTES] + text(9, seed=9)) == 7
    assert match(index, text(10, seed=9)) == 0
    assert match(index, text(10), "w1") == 0


def test_best_match_returns_all_that_share_the_longest() -> None:
    index = index_of(100)
    workers = make_workers(0, 0, 0, 0, 0)
    digests = block_digests(text(8))
    for worker, depth in zip(workers, (3, 8, 0, 8, 5), strict=True):
        index.remember(worker.worker_id, digests[:depth])
    assert index.best_match(digests, workers) == (8, [workers[1], workers[3]])
    assert index.best_match(digests[:4], workers) == (4, [workers[1], workers[3], workers[4]])
    assert index.best_match(digests, [workers[2], workers[0]]) == (3, [workers[0]])
    assert index.best_match([], workers) == (0, [])


def test_emptiest_returns_all_with_the_least_text() -> None:
    index = index_of(100)
    workers = make_workers(0, 0, 0)
    assert index.emptiest(workers) == workers
    index.remember("w1", block_digests(text(2)))
    assert index.emptiest(workers) == [workers[0], workers[2]]
    index.remember("w0", block_digests(text(3)))
    index.remember("w2", block_digests(text(3)))
    assert index.emptiest(workers) == [workers[1]]


def test_the_same_text_is_remembered_once() -> None:
    index = index_of(100)
    for _ in range(3):
        index.remember("w0", block_digests(text(5)))
    assert index.num_chars("w0") == 5 * BLOCK_BYTES


def test_least_recently_used_is_evicted_first() -> None:
    index = index_of(4)
    for seed in (1, 2, 1, 3):
        index.remember("w0", block_digests(text(2, seed)))
    assert [match(index, text(2, seed)) for seed in (1, 2, 3)] == [2, 0, 2]
    assert index.num_chars("w0") == 4 * BLOCK_BYTES


def test_the_beginning_outlives_what_continues_it() -> None:
    index = index_of(5)
    index.remember("w0", block_digests(text(4, seed=1)))
    index.remember("w0", block_digests(text(3, seed=2)))
    assert match(index, text(4, seed=1)) == 2


def test_a_prompt_larger_than_the_bound_keeps_its_beginning() -> None:
    index = index_of(4)
    index.remember("w0", block_digests(text(10)))
    assert match(index, text(10)) == 4


def test_bound_below_one_block_remembers_nothing() -> None:
    index = PrefixIndex(BLOCK_BYTES - 1, 60.0)
    index.remember("w0", block_digests(text(3)))
    assert index.num_chars("w0") == 0
    assert match(index, text(3)) == 0


def test_full_store_keeps_taking_in_new_text() -> None:
    index = index_of(64)
    for seed in range(200):
        index.remember("w0", block_digests(text(8, seed)))
        assert match(index, text(8, seed)) == 8


def test_hot_text_survives_any_amount_of_other_text() -> None:
    index = index_of(64)
    for seed in range(1, 300):
        index.remember("w0", block_digests(text(4, seed=0)))
        index.remember("w0", block_digests(text(4, seed)))
    assert match(index, text(4, seed=0)) == 4


def test_log_stays_bounded_when_the_same_texts_are_used_in_turn() -> None:
    index = index_of(100)
    texts = [block_digests(text(4, seed)) for seed in range(20)]
    for _ in range(200):
        for digests in texts:
            index.remember("w0", digests)
    index.forget("w0")
    num_slices = 0
    while index.num_retired_chars():
        index.maintain(0.0)
        num_slices += 1
    # 64 log entries a slice, and at most twice the 100 blocks in the log.
    assert num_slices <= 4


def test_log_does_not_grow_while_only_one_text_is_used() -> None:
    index = index_of(1600)
    for _ in range(1000):
        index.remember("w0", block_digests(text(4)))
    index.forget("w0")
    index.maintain(0.0)
    assert index.num_retired_chars() == 0


def test_recency_is_finer_than_the_whole_store() -> None:
    index = index_of(1600)
    for seed in range(240):
        index.remember("w0", block_digests(text(4, seed)))
    index.remember("w0", block_digests(text(4, seed=0)))
    for seed in range(240, 410):
        index.remember("w0", block_digests(text(4, seed)))
    assert match(index, text(4, seed=0)) == 4
    assert match(index, text(4, seed=1)) == 0


def test_interval_sweep_makes_room_ahead_of_need() -> None:
    index = index_of(1000, interval_s=10.0)
    index.maintain(0.0)
    for seed in range(250):
        index.remember("w0", block_digests(text(4, seed)))
    index.maintain(9.9)
    assert index.num_chars("w0") == 1000 * BLOCK_BYTES
    for _ in range(10):
        index.maintain(10.0)
    assert 830 * BLOCK_BYTES < index.num_chars("w0") <= 900 * BLOCK_BYTES
    assert match(index, text(4, seed=249)) == 4
    assert match(index, text(4, seed=0)) == 0


def test_interval_sweep_leaves_roomy_stores_alone() -> None:
    index = index_of(1000, interval_s=10.0)
    index.maintain(0.0)
    for seed in range(200):
        index.remember("w0", block_digests(text(4, seed)))
    for now_s in (10.0, 20.0, 30.0):
        index.maintain(now_s)
    assert index.num_chars("w0") == 800 * BLOCK_BYTES


def test_forget_drops_one_worker_at_once_and_its_memory_in_slices() -> None:
    index = index_of(1000)
    for worker_id in ("w0", "w1"):
        index.remember(worker_id, block_digests(text(500)))
    index.forget("w0")
    assert match(index, text(500), "w0") == 0
    assert index.num_chars("w0") == 0
    assert match(index, text(500), "w1") == 500
    remains = [index.num_retired_chars()]
    while remains[-1]:
        index.maintain(0.0)
        remains.append(index.num_retired_chars())
    assert max(a - b for a, b in itertools.pairwise(remains)) <= 64 * BLOCK_BYTES
    assert len(remains) > 5


def test_forget_of_an_unknown_worker_is_harmless() -> None:
    index = index_of(10)
    index.forget("nobody")
    assert index.num_retired_chars() == 0
