"""Requests of a class without sessions: each stands for itself."""

from bisect import bisect_right
from collections.abc import Iterator
from itertools import accumulate
from random import Random

from hfx_sgl.prompt import Prompt
from hfx_sgl.workload.planned import PlannedRequest
from hfx_sgl.workload.segment_ids import SegmentIds
from hfx_sgl.workload.synthetic.arrivals import Intensity, arrival_times
from hfx_sgl.workload.synthetic.distributions import whole
from hfx_sgl.workload.synthetic.task_class import Documents, TaskClass


def single_requests(task: TaskClass, *, seed: int, load_factor: float) -> Iterator[PlannedRequest]:
    """Yield the requests of a class in order of arrival, without an end.

    The n-th request is the same at every load; only its instant differs.
    """
    rng = Random(f"{seed}/{task.key}/requests")
    own_ids = SegmentIds(f"{seed}/{task.key}/own")
    shared = _SharedPrefixes(task, seed)
    arrivals = task.arrivals
    intensity = Intensity(
        mean_per_s=task.rate_per_s * load_factor,
        diurnal=arrivals.diurnal,
        flash_crowd=arrivals.flash_crowd,
    )
    times = arrival_times(
        Random(f"{seed}/{task.key}/arrivals"), arrivals.process, arrivals.cv, intensity
    )
    for number, at_s in enumerate(times):
        ids, tokens = shared.draw(rng)
        num_output_tokens = whole(task.output_tokens.at(rng.random()))
        num_own_tokens = whole(task.prompt_tokens.at(rng.random()))
        yield PlannedRequest(
            request_id=f"{task.key}-{number}",
            class_name=task.name,
            at_s=at_s,
            prompt=Prompt((*ids, own_ids.of(number)), (*tokens, num_own_tokens)),
            num_output_tokens=num_output_tokens,
            max_output_tokens=task.output_limit.of(num_output_tokens),
            slo=task.slo,
            priority=task.priority,
        )


def system_prompt(task: TaskClass, seed: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return ids and lengths of the segments that all requests of a class begin with."""
    if not task.system_prompt_tokens:
        return (), ()
    return (SegmentIds(f"{seed}/{task.key}/system").of(0),), (task.system_prompt_tokens,)


class _SharedPrefixes:
    """What stands before a request's own text: the system prompt, and a document."""

    def __init__(self, task: TaskClass, seed: int) -> None:
        system = system_prompt(task, seed)
        if task.documents is None:
            self._choices = [system]
            self._weights = [1.0]
            return
        self._choices = _with_documents(system, task, task.documents, seed)
        ranks = range(1, task.documents.count + 1)
        self._weights = list(accumulate(rank**-task.documents.skew for rank in ranks))

    def draw(self, rng: Random) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return ids and lengths of one choice; takes one number from `rng` if there are more."""
        if len(self._choices) == 1:
            return self._choices[0]
        picked = bisect_right(self._weights, rng.random() * self._weights[-1])
        return self._choices[min(picked, len(self._choices) - 1)]


def _with_documents(
    system: tuple[tuple[int, ...], tuple[int, ...]],
    task: TaskClass,
    documents: Documents,
    seed: int,
) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    rng = Random(f"{seed}/{task.key}/documents")
    document_ids = SegmentIds(f"{seed}/{task.key}/document")
    return [
        (
            (*system[0], document_ids.of(rank)),
            (*system[1], whole(documents.tokens.at(rng.random()))),
        )
        for rank in range(documents.count)
    ]
