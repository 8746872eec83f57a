"""Requests of a class with sessions: every turn repeats the turns and answers before it."""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from hfx_sgl.prompt import Prompt
from hfx_sgl.workload.planned import PlannedRequest
from hfx_sgl.workload.segment_ids import SegmentIds
from hfx_sgl.workload.synthetic.arrivals import Intensity, arrival_times
from hfx_sgl.workload.synthetic.distributions import whole
from hfx_sgl.workload.synthetic.single import system_prompt
from hfx_sgl.workload.synthetic.task_class import Sessions, TaskClass

_SURVEYED_SESSIONS = 1024
"""So many are drawn to learn how many turns a session has on average (to about 2 %)."""


@dataclass(frozen=True, slots=True)
class _Turn:
    """One turn, with its instant counted from the start of the session."""

    offset_s: float
    prompt: Prompt
    num_output_tokens: int


def session_requests(
    task: TaskClass, sessions: Sessions, *, seed: int, load_factor: float
) -> Iterator[PlannedRequest]:
    """Yield the turns of all sessions in order of arrival, without an end.

    `task.rate_per_s` counts turns. Sessions begin early enough before 0 that the rate of turns is
    steady from the start; what they asked before 0 is left out. The n-th session says the same at
    every load. A load factor brings sessions closer together and leaves their own pace alone.
    """
    turns_per_session, longest_s = _survey(task, sessions)
    arrivals = task.arrivals
    intensity = Intensity(
        mean_per_s=task.rate_per_s * load_factor / turns_per_session,
        diurnal=arrivals.diurnal,
        flash_crowd=arrivals.flash_crowd,
    )
    starts = arrival_times(
        Random(f"{seed}/{task.key}/arrivals"),
        arrivals.process,
        arrivals.cv,
        intensity,
        from_s=-longest_s,
    )
    plan = _SessionPlan(task, sessions, seed)
    in_flight: list[tuple[float, int, int, float, list[_Turn]]] = []
    for session, start_s in enumerate(starts):
        while in_flight and in_flight[0][0] <= start_s:
            at_s, number, index, began_s, turns = in_flight[0]
            if index + 1 < len(turns):
                later_s = began_s + turns[index + 1].offset_s
                heapq.heapreplace(in_flight, (later_s, number, index + 1, began_s, turns))
            else:
                heapq.heappop(in_flight)
            if at_s >= 0:
                yield _request(task, turns[index], at_s=at_s, session=number, index=index)
        heapq.heappush(in_flight, (start_s, session, 0, start_s, plan.draw()))


def _request(
    task: TaskClass, turn: _Turn, *, at_s: float, session: int, index: int
) -> PlannedRequest:
    return PlannedRequest(
        request_id=f"{task.key}-{session}.{index}",
        class_name=task.name,
        at_s=at_s,
        prompt=turn.prompt,
        num_output_tokens=turn.num_output_tokens,
        max_output_tokens=task.output_limit.of(turn.num_output_tokens),
        slo=task.slo,
        priority=task.priority,
        routing_key=f"{task.key}-{session}",
    )


class _SessionPlan:
    """Draws whole sessions, so that what one says does not depend on the others' timing."""

    def __init__(self, task: TaskClass, sessions: Sessions, seed: int) -> None:
        self._task = task
        self._sessions = sessions
        self._rng = Random(f"{seed}/{task.key}/requests")
        self._ids = SegmentIds(f"{seed}/{task.key}/own")
        self._num_segments = 0
        self._system = system_prompt(task, seed)

    def draw(self) -> list[_Turn]:
        """Return the turns of the next session: at least one."""
        task, sessions, uniform = self._task, self._sessions, self._rng.random
        num_turns = whole(sessions.turns.at(uniform()))
        ids = (*self._system[0], self._next_id())
        tokens = (*self._system[1], whole(sessions.opening_tokens.at(uniform())))
        turns: list[_Turn] = []
        offset_s = 0.0
        while len(turns) < num_turns:
            ids = (*ids, self._next_id())
            tokens = (*tokens, whole(task.prompt_tokens.at(uniform())))
            prompt = Prompt(ids, tokens)
            if prompt.num_tokens > task.max_prompt_tokens:
                break
            num_output_tokens = whole(task.output_tokens.at(uniform()))
            turns.append(_Turn(offset_s, prompt, num_output_tokens))
            ids = (*ids, self._next_id())
            tokens = (*tokens, num_output_tokens)
            offset_s += sessions.turn_gap_s.at(uniform())
        return turns

    def _next_id(self) -> int:
        self._num_segments += 1
        return self._ids.of(self._num_segments)


def _survey(task: TaskClass, sessions: Sessions) -> tuple[float, float]:
    """Return how many turns a session has on average, and how long the longest one takes."""
    plan = _SessionPlan(task, sessions, seed=0)
    drawn = [plan.draw() for _ in range(_SURVEYED_SESSIONS)]
    num_turns = sum(map(len, drawn))
    return num_turns / len(drawn), max(turns[-1].offset_s for turns in drawn)
