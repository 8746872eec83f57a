"""A short way to a decision must lead where the long one does."""

import random

import pytest
from support.scheduling import PAIRS, UNIFIED, plain_scheduler, request

from hfx_sgl.code_form import CodeForm, code_form
from hfx_sgl.policy.scheduler.facts import Action, Dispatch
from hfx_sgl.policy.scheduler.placement import Placement
from hfx_sgl.policy.scheduler.scheduler import Scheduler


def play(scheduler: Scheduler, seed: int, is_pd: bool) -> list[Action]:
    """Bursts of requests, some with a common beginning; prompts and answers end at random."""
    rng = random.Random(seed)
    now_s = 0.0
    number = 0
    computing: list[str] = []
    running: list[str] = []
    actions: list[Action] = []
    for _ in range(300):
        now_s += rng.choice([0.0, 0.02, 0.1, 0.5])
        for _ in range(rng.choice([0, 1, 1, 2, 4])):
            number += 1
            digests = [rng.randrange(3) + 1, number] if rng.random() < 0.3 else []
            scheduler.arrive(
                request(
                    f"r{number}",
                    rng.randint(1, 12),
                    at_s=now_s,
                    ttft_s=rng.choice([5.0, 9.0, 20.0]),
                    tpot_s=rng.choice([0.1, 1.0]),
                    block_digests=digests,
                    is_prefill_told=is_pd or rng.random() < 0.5,
                )
            )
        for ended in [name for name in computing if rng.random() < 0.9]:
            computing.remove(ended)
            running.append(ended)
            scheduler.prefill_over(ended, now_s)
        for ended in [name for name in running if rng.random() < 0.6]:
            running.remove(ended)
            scheduler.over(ended, now_s, rng.randint(1, 100))
        decided = scheduler.decide(now_s)
        actions += decided
        computing += [one.request_id for one in decided if isinstance(one, Dispatch)]
        for one in decided:
            if not isinstance(one, Dispatch) and one.request_id in computing:
                computing.remove(one.request_id)
    return actions


@pytest.mark.skipif(
    code_form() is CodeForm.COMPILED, reason="replaces a method, which a compiled class ignores"
)
@pytest.mark.parametrize("is_pd", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_light_load_is_decided_as_if_all_was_weighed(
    seed: int, is_pd: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    workers = PAIRS if is_pd else UNIFIED
    calls = []
    calm_move = Placement._calm_move

    def counted(placement: Placement, now_s: float) -> object:
        move = calm_move(placement, now_s)
        calls.append(move is not None)
        return move

    monkeypatch.setattr(Placement, "_calm_move", counted)
    short = play(plain_scheduler(workers), seed, is_pd)
    assert sum(calls) > 20
    monkeypatch.setattr(Placement, "_calm_move", lambda placement, now_s: None)
    assert play(plain_scheduler(workers), seed, is_pd) == short
