import random
from collections import Counter

import pytest

from hfx_sgl.policy.fakes import FakeRequest, FakeWorker, make_workers
from hfx_sgl.policy.selection.balance import is_imbalanced
from hfx_sgl.policy.selection.cache_aware import CacheAware
from hfx_sgl.policy.selection.config import SelectionConfig

CONFIG = SelectionConfig(cache_threshold=0.5, balance_abs_threshold=10, balance_rel_threshold=1.5)


def text(num_bytes: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(num_bytes)


def pick(policy: CacheAware, prompt: bytes, workers: list[FakeWorker]) -> str:
    return policy.select(FakeRequest(prompt), workers, 0.0).worker_id


@pytest.mark.parametrize(
    ("loads", "expected"),
    [
        ((0, 10), False),
        ((0, 11), True),
        ((30, 45), False),
        ((30, 46), True),
        ((5, 5), False),
        ((100, 109), False),
        ((30, 50, 40), True),
    ],
)
def test_imbalance_takes_both_thresholds(loads: tuple[int, ...], expected: bool) -> None:
    assert is_imbalanced(CONFIG, make_workers(*loads)) is expected


def test_prompt_returns_to_its_worker_even_when_that_is_busier() -> None:
    policy, workers = CacheAware(CONFIG), make_workers(0, 0, 0)
    first = pick(policy, text(1000), workers)
    for worker in workers:
        worker.num_inflight = 8 if worker.worker_id == first else 0
    assert pick(policy, text(1000) + b"more" * 50, workers) == first


def test_unknown_prompts_spread_over_the_emptiest() -> None:
    policy, workers = CacheAware(CONFIG), make_workers(0, 0, 0)
    assert Counter(pick(policy, text(640, seed), workers) for seed in range(30)) == {
        "w0": 10,
        "w1": 10,
        "w2": 10,
    }


def test_equally_empty_the_less_loaded_is_chosen() -> None:
    assert pick(CacheAware(CONFIG), text(640), make_workers(3, 1, 2)) == "w1"


def test_emptiest_wins_over_less_loaded() -> None:
    policy, workers = CacheAware(CONFIG), make_workers(0, 5)
    assert pick(policy, text(640, seed=1), workers) == "w0"
    assert pick(policy, text(640, seed=2), workers) == "w1"


@pytest.mark.parametrize(("num_shared", "expected"), [(6, "w0"), (5, "w1")])
def test_a_match_must_exceed_the_threshold(num_shared: int, expected: str) -> None:
    policy, workers = CacheAware(CONFIG), make_workers(0, 0)
    assert pick(policy, text(1280), workers) == "w0"
    prompt = text(128 * num_shared) + text(1280 - 128 * num_shared, seed=1)
    assert pick(policy, prompt, workers) == expected


def test_longest_match_wins() -> None:
    policy, (long, short) = CacheAware(CONFIG), make_workers(5, 0)
    pick(policy, text(128 * 8), [short])
    pick(policy, text(128 * 9), [long])
    assert pick(policy, text(128 * 10), [short, long]) == long.worker_id


def test_equal_matches_go_to_the_less_loaded() -> None:
    policy, workers = CacheAware(CONFIG), make_workers(4, 2, 3)
    for worker in workers:
        pick(policy, text(1280), [worker])
    assert pick(policy, text(1280), workers) == "w1"


def test_imbalance_overrides_the_match_and_teaches_the_other_worker() -> None:
    policy, workers = CacheAware(CONFIG), make_workers(0, 0)
    assert pick(policy, text(1280), workers) == "w0"
    workers[0].num_inflight = 11
    assert pick(policy, text(1280), workers) == "w1"
    workers[0].num_inflight = 5
    workers[1].num_inflight = 4
    assert pick(policy, text(1280), workers) == "w1"


@pytest.mark.parametrize("num_bytes", [0, 127])
def test_prompts_below_one_block_spread_by_load(num_bytes: int) -> None:
    policy, workers = CacheAware(CONFIG), make_workers(0, 0, 1)
    chosen = [pick(policy, text(num_bytes), workers) for _ in range(4)]
    assert chosen == ["w0", "w1", "w0", "w1"]


def test_share_of_a_very_long_prompt_is_that_of_its_indexed_part() -> None:
    policy, workers = CacheAware(CONFIG), make_workers(0, 0)
    assert pick(policy, text(1_000_000), workers) == "w0"
    assert pick(policy, text(1_000_000), workers) == "w0"


def test_candidates_left_out_do_not_count_as_match() -> None:
    policy, workers = CacheAware(CONFIG), make_workers(0, 0)
    assert pick(policy, text(1280), workers) == "w0"
    assert pick(policy, text(1280), workers[1:]) == "w1"


def test_forgotten_worker_matches_nothing() -> None:
    policy, workers = CacheAware(CONFIG), make_workers(1, 0)
    pick(policy, text(1280), workers[:1])
    policy.forget("w0")
    assert pick(policy, text(1280), workers) == "w1"


def test_memory_is_bounded_by_the_configuration() -> None:
    policy = CacheAware(SelectionConfig(cache_threshold=0.5, max_tree_chars=1280))
    workers = make_workers(1, 0)
    pick(policy, text(1280, seed=1), workers[:1])
    assert pick(policy, text(1280, seed=1), workers) == "w0"
    pick(policy, text(1280, seed=2), workers[:1])
    assert pick(policy, text(1280, seed=1), workers) == "w1"


def test_time_makes_room_ahead_of_need() -> None:
    config = SelectionConfig(cache_threshold=0.5, max_tree_chars=12800, eviction_interval_s=5.0)
    policy, workers = CacheAware(config), make_workers(1, 0)
    policy.select(FakeRequest(text(1280, seed=1)), workers[:1], 0.0)
    policy.select(FakeRequest(text(11520, seed=2)), workers[:1], 0.0)
    for now_s in (5.0, 5.1):
        policy.select(FakeRequest(b""), workers, now_s)
    assert pick(policy, text(1280, seed=1), workers) == "w1"
