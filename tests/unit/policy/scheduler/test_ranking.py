import math
import random

from support.scheduling import plain_models, worker

from hfx_sgl.policy.scheduler.ranking import Ranking
from hfx_sgl.policy.scheduler.worker_state import WorkerState


def workers(number: int) -> list[WorkerState]:
    return [WorkerState(worker(f"w{n}"), plain_models(), sequence=n) for n in range(number)]


def test_the_lowest_is_first_and_ties_go_by_joining() -> None:
    first, second, third = workers(3)
    ranking = Ranking()
    assert ranking.lowest == math.inf
    ranking.put(third, 1.0, 2.0)
    ranking.put(second, 1.0, 2.0)
    ranking.put(first, 1.0, 3.0)
    assert ranking.states == [second, third, first]
    ranking.put(third, -math.inf)
    assert (ranking.states[0], ranking.lowest) == (third, -math.inf)
    assert ranking.discard(third)
    assert not ranking.discard(third)
    assert (ranking.states, ranking.lowest) == ([second, first], 1.0)


def test_stays_in_order_whatever_happens() -> None:
    rng = random.Random(3)
    states = workers(20)
    ranking = Ranking()
    keys: dict[int, tuple[float, float, int]] = {}
    for _ in range(2000):
        state = rng.choice(states)
        if rng.random() < 0.3:
            assert ranking.discard(state) == (keys.pop(state.sequence, None) is not None)
        else:
            key = float(rng.randrange(5)), float(rng.randrange(3))
            ranking.put(state, *key)
            keys[state.sequence] = (*key, state.sequence)
        expected = [states[sequence] for _, _, sequence in sorted(keys.values())]
        assert ranking.states == expected
