"""Times the calls of one scene, in processor time. Each includes the `decide` that follows it."""

import gc
import time
from dataclasses import dataclass

from policy_bench.scene import CLASSES, Scene


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Of one kind of call, in microseconds."""

    median_us: float
    p99_us: float


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One point of the curve."""

    num_workers: int
    num_waiting: int
    arrival: Cost
    """A request arrives. With nobody waiting it is mostly sent."""
    send: Cost
    """A worker is ready, or has computed a prompt, and requests are sent: for each of them."""
    end: Cost
    """A prefill or an answer has ended, and nothing is sent."""


def measure(num_workers: int, num_waiting: int, is_pd: bool, num_rounds: int) -> Cell:
    """Let requests arrive and prefills and answers end, as many as are sent, and time each."""
    scene = Scene(num_workers, is_pd, seed=num_workers + num_waiting)
    scene.fill(num_waiting)
    arrivals, sends, ends = [], [], []
    num_left = num_rounds + num_rounds // 10
    gc.collect()
    gc.disable()
    try:
        while num_left:
            num_before = scene.num_sent
            arrivals.append(_arrival_us(scene))
            while scene.num_sent == num_before or scene.num_waiting > num_waiting:
                num_sent = scene.num_sent
                call_us = _prefill_end_us(scene, scene.next_prefilled())
                if scene.num_sent > num_sent:
                    sends.append(call_us / (scene.num_sent - num_sent))
                else:
                    ends.append(call_us)
                if (request_id := scene.next_ended()) is not None:
                    ends.append(_answer_end_us(scene, request_id))
            while scene.num_waiting < num_waiting - 1:
                arrivals.append(_arrival_us(scene))
            num_left -= 1
            if num_left == num_rounds:
                # What comes before is there to settle.
                arrivals, sends, ends = [], [], []
    finally:
        gc.enable()
    return Cell(
        num_workers=num_workers,
        num_waiting=num_waiting,
        arrival=_cost(arrivals),
        send=_cost(sends),
        end=_cost(ends),
    )


def _arrival_us(scene: Scene) -> float:
    facts = scene.draw(is_patient=True)
    began_s = time.thread_time()
    scene.arrive(facts)
    return _decide_us(scene, began_s)


def _prefill_end_us(scene: Scene, request_id: str | None) -> float:
    began_s = time.thread_time()
    if request_id is not None:
        scene.scheduler.prefill_over(request_id, scene.now_s)
    return _decide_us(scene, began_s)


def _answer_end_us(scene: Scene, request_id: str) -> float:
    began_s = time.thread_time()
    scene.scheduler.over(request_id, scene.now_s, 200)
    return _decide_us(scene, began_s)


def _decide_us(scene: Scene, began_s: float) -> float:
    actions = scene.scheduler.decide(scene.now_s)
    scene.scheduler.next_decision_s(scene.now_s)
    ended_s = time.thread_time()
    scene.take(actions)
    return (ended_s - began_s) * 1e6


def whole_life(num_workers: int, is_pd: bool, num_rounds: int) -> Cost:
    """Time all calls for one chat request after the other, with nobody else there."""
    scene = Scene(num_workers, is_pd, seed=num_workers)
    scheduler, clock = scene.scheduler, time.thread_time
    lives = []
    for _ in range(num_rounds):
        scene.now_s += 10.0
        facts = scene.draw(classes=CLASSES[:1])
        began_s = clock()
        scheduler.arrive(facts)
        scheduler.decide(scene.now_s)
        scheduler.next_decision_s(scene.now_s)
        scheduler.prefill_over(facts.request_id, scene.now_s + 0.1)
        scheduler.decide(scene.now_s + 0.1)
        scheduler.next_decision_s(scene.now_s + 0.1)
        scheduler.over(facts.request_id, scene.now_s + 5.0, 200)
        scheduler.decide(scene.now_s + 5.0)
        scheduler.next_decision_s(scene.now_s + 5.0)
        lives.append((clock() - began_s) * 1e6)
    return _cost(lives)


def _cost(calls_us: list[float]) -> Cost:
    ordered = sorted(calls_us) or [0.0]
    return Cost(
        median_us=ordered[len(ordered) // 2], p99_us=ordered[int(0.99 * (len(ordered) - 1))]
    )
