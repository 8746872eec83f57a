import random
from itertools import combinations

import pytest

from hfx_sgl.policy.scheduler.on_time import Job, on_time


def most_on_time(jobs: list[Job], start_s: float, speed: float) -> int:
    """By trying all sets; a set is feasible when it is in order of deadline."""
    for size in range(len(jobs), 0, -1):
        for chosen in combinations(jobs, size):
            end_s = start_s
            late = False
            for job in chosen:
                end_s += job.service_s / speed
                late = late or end_s > job.deadline_s
            if not late:
                return size
    return 0


@pytest.mark.parametrize("seed", range(40))
def test_keeps_as_many_as_brute_force_finds(seed: int) -> None:
    rng = random.Random(seed)
    # Powers of two: sums in any order are exact.
    jobs = sorted(
        Job(rng.randrange(1, 80) / 8, rng.randrange(1, 24) / 8) for _ in range(rng.randrange(1, 9))
    )
    start_s, speed = rng.randrange(8) / 8, rng.choice([0.5, 1.0, 4.0])
    kept = list(on_time(enumerate(jobs), start_s, speed))
    assert len(kept) == most_on_time(jobs, start_s, speed)
    assert kept == sorted(kept)
    end_s = start_s
    for position in kept:
        end_s += jobs[position].service_s / speed
        assert end_s <= jobs[position].deadline_s


def test_gives_up_the_longest_though_it_is_the_most_urgent() -> None:
    jobs = [("long", Job(10, 9)), ("short", Job(11, 2)), ("other", Job(12, 2))]
    assert list(on_time(jobs, 0, 1)) == ["short", "other"]


def test_a_faster_machine_keeps_all_of_them() -> None:
    jobs = [("long", Job(10, 9)), ("short", Job(11, 2)), ("other", Job(12, 2))]
    assert list(on_time(jobs, 0, 2)) == ["long", "short", "other"]


def test_a_machine_that_is_free_too_late_keeps_nobody() -> None:
    assert list(on_time([("a", Job(1, 0.5)), ("b", Job(2, 0.5))], 1.75, 1)) == []


def test_a_job_may_end_at_its_deadline() -> None:
    assert list(on_time([("a", Job(1, 1))], 0, 1)) == ["a"]
