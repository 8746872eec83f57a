"""A scheduler with so many busy workers and so many waiting requests, and what happens to it."""

import heapq
import itertools
import random
from collections import deque
from collections.abc import Sequence

from hfx_sgl.policy.latency.models import LatencyModels
from hfx_sgl.policy.scheduler.config import SchedulerConfig
from hfx_sgl.policy.scheduler.facts import (
    Action,
    Dispatch,
    RequestFacts,
    WorkerFacts,
    WorkerReport,
)
from hfx_sgl.policy.scheduler.scheduler import Scheduler
from hfx_sgl.slo import Slo
from hfx_sgl.types import Role

_KV_TOKENS = 400_000
Class = tuple[str, Slo, tuple[int, int], int]
"""Name, promise, range of prompt tokens, output tokens."""

CLASSES: Sequence[Class] = (
    ("chat", Slo(ttft_s=1.0, tpot_s=0.05), (50, 1500), 225),
    ("code", Slo(ttft_s=0.5, tpot_s=0.1), (50, 800), 30),
    ("agent", Slo(ttft_s=2.0, tpot_s=0.08), (500, 6000), 200),
    ("summarisation", Slo(ttft_s=4.0, tpot_s=0.08), (4000, 12000), 300),
)
_NUM_SHARED_PREFIXES = 20
_SHARED_BLOCKS = 24
_BLOCK_TOKENS = 32


class Scene:
    """Requests of mixed classes, a third of them with one of a few shared beginnings.

    Half of the workers are unified, or prefill workers with as many decode workers.
    """

    def __init__(self, num_workers: int, is_pd: bool, seed: int) -> None:
        self.scheduler = Scheduler(SchedulerConfig(), LatencyModels())
        self.now_s = 1000.0
        self.num_sent = 0
        self.num_arrived = 0
        self._random = random.Random(seed)
        self._numbers = itertools.count()
        self._prefills: list[tuple[float, str]] = []
        self._free_at_s: dict[str, float] = {}
        self._decoding: deque[str] = deque()
        self._num_running = 2 * num_workers
        roles = [Role.PREFILL, Role.DECODE] if is_pd else [Role.REGULAR]
        self._worker_ids = [
            f"http://10.0.{number // 250}.{number % 250}:30000" for number in range(num_workers)
        ]
        for number, worker_id in enumerate(self._worker_ids):
            self.scheduler.add_worker(
                WorkerFacts(
                    worker_id=worker_id,
                    role=roles[number % len(roles)],
                    kv_capacity_tokens=_KV_TOKENS,
                )
            )
        self.report()

    def report(self) -> None:
        """Every worker reports counters, so that none is timed by the scheduler."""
        for worker_id in self._worker_ids:
            self.scheduler.report(
                worker_id,
                WorkerReport(
                    num_prefill_tokens=1000,
                    prefill_busy_s=0.1,
                    decode_moments=(1.0, 1.0, 1e4, 1.0, 1e4, 1.0),
                    mean_context_tokens=0.0,
                ),
            )

    def fill(self, num_waiting: int) -> None:
        """Have every worker busy, and so many requests wait beside those."""
        while True:
            self.arrive(self.draw())
            if not self.take(self.scheduler.decide(self.now_s)):
                break
        for _ in range(num_waiting - 1):
            self.arrive(self.draw(is_patient=True))

    def draw(self, is_patient: bool = False, classes: Sequence[Class] = CLASSES) -> RequestFacts:
        """Return a request that arrives now; patient ones are promised ten minutes more."""
        name, slo, (low, high), num_output_tokens = self._random.choice(classes)
        num_tokens = self._random.randint(low, high)
        num_blocks = num_tokens // _BLOCK_TOKENS
        digests = [self._random.getrandbits(64) for _ in range(num_blocks)]
        if self._random.random() < 1 / 3:
            shared = random.Random(self._random.randrange(_NUM_SHARED_PREFIXES))
            prefix = [shared.getrandbits(64) for _ in range(min(_SHARED_BLOCKS, num_blocks))]
            digests[: len(prefix)] = prefix
        if is_patient:
            slo = Slo(ttft_s=slo.ttft_s + 600.0, tpot_s=slo.tpot_s)
        return RequestFacts(
            request_id=str(next(self._numbers)),
            class_name=name,
            arrived_at_s=self.now_s,
            slo=slo,
            num_prompt_tokens=num_tokens,
            max_output_tokens=num_output_tokens,
            block_digests=digests,
        )

    @property
    def num_waiting(self) -> int:
        return self.num_arrived - self.num_sent

    def arrive(self, facts: RequestFacts) -> None:
        self.scheduler.arrive(facts)
        self.num_arrived += 1

    def take(self, actions: list[Action]) -> list[Action]:
        """Note what was sent, and when its prefill will end: just when it was expected."""
        for action in actions:
            if not isinstance(action, Dispatch):
                continue
            worker_id = action.prefill_worker_id or action.worker_id
            begin_s = max(self.now_s, self._free_at_s.get(worker_id, 0.0))
            self._free_at_s[worker_id] = end_s = begin_s + action.predicted_prefill_s
            heapq.heappush(self._prefills, (end_s, action.request_id))
            self.num_sent += 1
        return actions

    def next_prefilled(self) -> str | None:
        """Go on to the next end of a prefill and return whose, or to when a decision is due."""
        wanted_s = self.scheduler.next_decision_s(self.now_s)
        if not self._prefills or wanted_s < self._prefills[0][0]:
            self.now_s = wanted_s
            return None
        self.now_s, request_id = heapq.heappop(self._prefills)
        self._decoding.append(request_id)
        return request_id

    def next_ended(self) -> str | None:
        """Return a request that has ended, when enough run."""
        return self._decoding.popleft() if len(self._decoding) > self._num_running else None
