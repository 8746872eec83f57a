import random
from collections import Counter

import pytest

from hfx_sgl.policy.fakes import FakeRequest, FakeWorker, make_workers
from hfx_sgl.policy.selection.catalog import PREFILL_POLICY_NAMES, SelectionConfig, make_policy
from hfx_sgl.policy.selection.least_load import LeastLoad
from hfx_sgl.policy.selection.power_of_two import PowerOfTwo
from hfx_sgl.policy.selection.random_choice import RandomChoice
from hfx_sgl.policy.selection.round_robin import RoundRobin
from hfx_sgl.policy.view import SelectionPolicy

REQUEST = FakeRequest()


def picks(policy: SelectionPolicy, workers: list[FakeWorker], num: int) -> list[str]:
    return [policy.select(REQUEST, workers, 0.0).worker_id for _ in range(num)]


@pytest.mark.parametrize("name", PREFILL_POLICY_NAMES)
def test_single_candidate_is_chosen(name: str) -> None:
    policy = make_policy(name, SelectionConfig(), random.Random(1))
    (worker,) = make_workers(1000)
    for now_s in (0.0, 10.0):
        assert policy.select(FakeRequest(b"x" * 300, "key"), (worker,), now_s) is worker


@pytest.mark.parametrize("name", PREFILL_POLICY_NAMES)
def test_same_seed_same_choices(name: str) -> None:
    workers = make_workers(0, 3, 1, 2)
    prompts = [random.Random(i).randbytes(i * 40) for i in range(60)]

    def run(seed: int) -> list[str]:
        policy = make_policy(name, SelectionConfig(), random.Random(seed))
        return [
            policy.select(FakeRequest(prompt, str(i)), workers, i / 2).worker_id
            for i, prompt in enumerate(prompts)
        ]

    assert run(7) == run(7)


def test_random_choice_is_even() -> None:
    counts = Counter(picks(RandomChoice(random.Random(1)), make_workers(0, 9, 0, 9), 8000))
    assert len(counts) == 4
    assert all(1850 < count < 2150 for count in counts.values())


def test_round_robin_takes_turns() -> None:
    assert picks(RoundRobin(), make_workers(5, 0, 9), 5) == ["w0", "w1", "w2", "w0", "w1"]


def test_round_robin_is_fair_to_lists_asked_in_alternation() -> None:
    policy = RoundRobin()
    one, other = make_workers(0, 0), [FakeWorker("x0"), FakeWorker("x1")]
    chosen = Counter[str]()
    for _ in range(10):
        chosen.update(picks(policy, one, 1) + picks(policy, other, 1))
    assert set(chosen.values()) == {5}


def test_round_robin_survives_a_shrinking_list() -> None:
    policy = RoundRobin()
    workers = make_workers(0, 0, 0)
    picks(policy, workers, 2)
    assert picks(policy, workers[:2], 3) == ["w0", "w1", "w0"]


def test_power_of_two_avoids_the_most_loaded_always() -> None:
    chosen = Counter(picks(PowerOfTwo(random.Random(1)), make_workers(1, 0, 9, 1), 3000))
    assert "w2" not in chosen
    assert chosen.most_common(1)[0][0] == "w1"


def test_power_of_two_draws_two_different_candidates() -> None:
    assert set(picks(PowerOfTwo(random.Random(1)), make_workers(0, 1), 200)) == {"w0"}


def test_power_of_two_takes_the_first_drawn_when_equal() -> None:
    draws = iter([0.7, 0.1])

    class FixedRandom(random.Random):
        def random(self) -> float:
            return next(draws)

    assert picks(PowerOfTwo(FixedRandom()), make_workers(4, 4, 4), 1) == ["w2"]


def test_power_of_two_is_even_among_equals() -> None:
    counts = Counter(picks(PowerOfTwo(random.Random(1)), make_workers(2, 2, 2, 2), 8000))
    assert all(1850 < counts[f"w{i}"] < 2150 for i in range(4))


@pytest.mark.parametrize(
    ("loads", "expected"),
    [
        ((3, 1, 2), "w1 w1 w1"),
        ((1, 1, 1), "w0 w1 w2"),
        ((5, 1, 9, 1, 1), "w1 w3 w4 w1"),
        ((0, 5, 5, 5, 0), "w0 w4 w0 w4"),
    ],
)
def test_least_load_takes_turns_among_equals(loads: tuple[int, ...], expected: str) -> None:
    turns = expected.split()
    assert picks(LeastLoad(), make_workers(*loads), len(turns)) == turns


def test_least_load_is_fair_to_lists_asked_in_alternation() -> None:
    policy = LeastLoad()
    one, other = make_workers(0, 0), [FakeWorker("x0"), FakeWorker("x1")]
    chosen = Counter[str]()
    for _ in range(10):
        chosen.update(picks(policy, one, 1) + picks(policy, other, 1))
    assert set(chosen.values()) == {5}


@pytest.mark.parametrize("make", [RoundRobin, LeastLoad])
def test_forgotten_worker_takes_its_turns_with_it(make: type[RoundRobin] | type[LeastLoad]) -> None:
    policy = make()
    workers = make_workers(0, 0, 0)
    assert picks(policy, workers, 1) == ["w0"]
    policy.forget("w0")
    assert picks(policy, workers, 1) == ["w0"]
