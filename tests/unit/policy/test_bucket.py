import random
from collections import Counter

from hfx_sgl.policy.fakes import FakeRequest, FakeWorker, make_workers
from hfx_sgl.policy.selection.bucket import WINDOW_PROMPTS, Bucket
from hfx_sgl.policy.selection.config import SelectionConfig

CONFIG = SelectionConfig(balance_abs_threshold=10, bucket_adjust_interval_s=5.0)


def pick(policy: Bucket, length: int, workers: list[FakeWorker], now_s: float) -> str:
    return policy.select(FakeRequest(bytes(length)), workers, now_s).worker_id


def taught(lengths: list[int]) -> Bucket:
    """Return a policy whose boundaries come from just these lengths and one empty prompt."""
    policy, workers = Bucket(CONFIG, random.Random(1)), make_workers(0, 0)
    for length in lengths:
        pick(policy, length, workers, 0.0)
    pick(policy, 0, workers, 5.0)
    return policy


def test_ranges_carry_equal_shares_of_the_bytes() -> None:
    # Ten times as many short prompts as long ones, ten times as long: half of the bytes each.
    policy, workers = taught([100] * 100 + [1000] * 10), make_workers(0, 0)
    assert {pick(policy, 100, workers, 6.0) for _ in range(50)} == {"w0"}
    assert {pick(policy, 1000, workers, 6.0) for _ in range(50)} == {"w1"}
    assert pick(policy, 20, workers, 6.0) == "w0"
    assert pick(policy, 5000, workers, 6.0) == "w1"


def test_short_prompts_come_first_for_any_number_of_candidates() -> None:
    policy = taught(list(range(1, 1000)))
    for num in (1, 2, 3, 7):
        workers = make_workers(*[0] * num)
        chosen = [int(pick(policy, n, workers, 6.0)[1:]) for n in range(1, 1000, 10)]
        assert chosen == sorted(chosen)
        assert set(chosen) == set(range(num))


def test_bytes_end_up_even_on_skewed_lengths() -> None:
    rng = random.Random(2)
    policy, workers = Bucket(CONFIG, rng), make_workers(0, 0, 0, 0)
    carried = Counter[str]()
    for i in range(8000):
        length = int(rng.lognormvariate(5, 1.2)) + 1
        worker_id = pick(policy, length, workers, i / 50)
        if i >= 2000:
            carried[worker_id] += length
    assert max(carried.values()) < 1.25 * min(carried.values())


def test_one_length_is_split_evenly() -> None:
    policy, workers = taught([500] * 50), make_workers(0, 0, 0, 0)
    counts = Counter(pick(policy, 500, workers, 6.0) for _ in range(4000))
    assert all(880 < counts[worker.worker_id] < 1120 for worker in workers)


def test_before_the_first_boundaries_load_decides() -> None:
    policy, workers = Bucket(CONFIG, random.Random(1)), make_workers(1, 0, 0)
    chosen = [pick(policy, 100, workers, 4.9) for _ in range(4)]
    assert chosen == ["w1", "w2", "w1", "w2"]


def test_empty_prompts_alone_set_no_boundaries() -> None:
    policy, workers = taught([0] * 10), make_workers(1, 0)
    assert pick(policy, 0, workers, 6.0) == "w1"


def test_imbalance_overrides_the_range() -> None:
    policy, workers = taught([100] * 100 + [1000] * 10), make_workers(11, 0)
    assert pick(policy, 100, workers, 6.0) == "w1"


def test_boundaries_stay_for_the_interval() -> None:
    policy, workers = taught([100] * 50 + [1000] * 50), make_workers(0, 0)
    assert pick(policy, 1000, workers, 9.9) == "w1"
    for _ in range(50):
        pick(policy, 100_000, workers, 9.9)
    assert pick(policy, 1000, workers, 9.99) == "w1"
    assert pick(policy, 1000, workers, 10.0) == "w0"


def test_old_prompts_leave_the_window() -> None:
    policy, workers = taught([100_000] * 50), make_workers(0, 0)
    for i in range(WINDOW_PROMPTS):
        pick(policy, 10 + i % 2, workers, 6.0)
    pick(policy, 10, workers, 10.0)
    assert pick(policy, 12, workers, 10.0) == "w1"


def test_forget_resets_the_turns_of_the_fallback() -> None:
    policy, workers = Bucket(CONFIG, random.Random(1)), make_workers(0, 0)
    assert pick(policy, 1, workers, 0.0) == "w0"
    policy.forget("w0")
    assert pick(policy, 1, workers, 0.0) == "w0"
