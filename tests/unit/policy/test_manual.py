import random
from collections import Counter

import pytest

from hfx_sgl.policy.fakes import FakeRequest, FakeWorker, make_workers
from hfx_sgl.policy.selection import manual
from hfx_sgl.policy.selection.config import AssignmentMode, SelectionConfig
from hfx_sgl.policy.selection.manual import Manual


def make(mode: AssignmentMode = AssignmentMode.RANDOM, max_idle_s: float = 100.0) -> Manual:
    config = SelectionConfig(assignment_mode=mode, max_idle_s=max_idle_s)
    return Manual(config, random.Random(1))


def pick(policy: Manual, key: str | None, workers: list[FakeWorker], now_s: float = 0.0) -> str:
    return policy.select(FakeRequest(b"", key), workers, now_s).worker_id


@pytest.mark.parametrize("mode", AssignmentMode)
def test_a_key_stays_with_its_worker_whatever_the_load(mode: AssignmentMode) -> None:
    policy, workers = make(mode), make_workers(0, 0, 0, 0)
    first = {str(key): pick(policy, str(key), workers) for key in range(50)}
    for worker, load in zip(workers, (9, 0, 50, 3), strict=True):
        worker.num_inflight = load
    assert {key: pick(policy, key, workers[::-1]) for key in first} == first


def test_no_key_goes_anywhere() -> None:
    policy, workers = make(), make_workers(0, 0, 0)
    assert len({pick(policy, None, workers) for _ in range(50)}) == 3
    assert policy.num_keys == 0


def test_empty_key_is_a_key() -> None:
    policy, workers = make(), make_workers(0, 0, 0)
    assert len({pick(policy, "", workers) for _ in range(50)}) == 1


def test_random_mode_spreads_keys() -> None:
    policy, workers = make(), make_workers(0, 0, 0, 0)
    counts = Counter(pick(policy, str(key), workers) for key in range(4000))
    assert all(850 < counts[worker.worker_id] < 1150 for worker in workers)


def test_min_load_takes_the_lowest_load_then_the_fewest_keys() -> None:
    policy, workers = make(AssignmentMode.MIN_LOAD), make_workers(2, 1, 1)
    assert [pick(policy, key, workers) for key in "abcd"] == ["w1", "w2", "w1", "w2"]


def test_min_group_takes_the_fewest_keys_then_the_lowest_load() -> None:
    policy, workers = make(AssignmentMode.MIN_GROUP), make_workers(2, 1, 0)
    assert [pick(policy, key, workers) for key in "abcd"] == ["w2", "w1", "w0", "w2"]


def test_key_of_a_missing_worker_moves_for_good() -> None:
    policy, workers = make(AssignmentMode.MIN_LOAD), make_workers(0, 1)
    assert pick(policy, "key", workers) == "w0"
    assert pick(policy, "key", workers[1:]) == "w1"
    assert pick(policy, "key", workers) == "w1"


def test_moved_key_counts_for_its_new_worker_only() -> None:
    policy, workers = make(AssignmentMode.MIN_GROUP), make_workers(0, 0)
    assert [pick(policy, key, workers) for key in "ab"] == ["w0", "w1"]
    assert pick(policy, "a", workers[1:]) == "w1"
    assert [pick(policy, key, workers) for key in "cde"] == ["w0", "w0", "w0"]


def test_idle_key_is_assigned_anew() -> None:
    policy, workers = make(AssignmentMode.MIN_LOAD), make_workers(0, 1)
    assert pick(policy, "key", workers, 0.0) == "w0"
    workers[0].num_inflight = 9
    assert pick(policy, "key", workers, 99.9) == "w0"
    assert pick(policy, "key", workers, 199.8) == "w0"
    assert pick(policy, "key", workers, 299.8) == "w1"


def test_idle_keys_leave_memory_and_used_ones_stay() -> None:
    policy, workers = make(AssignmentMode.MIN_GROUP), make_workers(0, 0)
    for key in range(40):
        pick(policy, str(key), workers, 0.0)
    kept = pick(policy, "0", workers, 90.0)
    for _ in range(20):
        pick(policy, None, workers, 110.0)
    assert policy.num_keys == 1
    assert pick(policy, "0", workers, 111.0) == kept
    for _ in range(20):
        pick(policy, None, workers, 250.0)
    assert policy.num_keys == 0


def test_dropping_idle_keys_is_a_little_work_per_call() -> None:
    policy, workers = make(), make_workers(0, 0)
    for key in range(100):
        pick(policy, str(key), workers, 0.0)
    pick(policy, None, workers, 1000.0)
    assert 90 < policy.num_keys < 100


def test_dropped_keys_no_longer_count() -> None:
    policy, workers = make(AssignmentMode.MIN_GROUP), make_workers(0, 0)
    for key in "abc":
        pick(policy, key, workers[:1], 0.0)
    pick(policy, "d", workers[1:], 90.0)
    pick(policy, None, workers, 110.0)
    assert pick(policy, "e", workers, 110.0) == "w0"


def test_number_of_keys_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manual, "MAX_KEYS", 10)
    policy, workers = make(), make_workers(0, 0, 0, 0, 0, 0)
    busy = pick(policy, "busy", workers, 0.0)
    for key in range(200):
        assert pick(policy, "busy", workers, key / 1000 + 0.0005) == busy
        pick(policy, str(key), workers, key / 1000)
        assert policy.num_keys <= 10


def test_forgotten_worker_no_longer_counts() -> None:
    policy, workers = make(AssignmentMode.MIN_GROUP), make_workers(0, 0)
    for key in "ab":
        pick(policy, key, workers[:1])
    policy.forget("w0")
    assert pick(policy, "a", workers[1:]) == "w1"
    workers[0].worker_id = "w0-again"
    assert pick(policy, "c", workers) == "w0-again"
    assert pick(policy, "b", workers) == "w0-again"
