"""Workers under a scheduler that take exactly as long as it predicts."""

import heapq
import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from support.scheduling import dispatched

from hfx_sgl.policy.scheduler.facts import Dispatch, RequestFacts
from hfx_sgl.policy.scheduler.scheduler import Scheduler


@dataclass(slots=True)
class PlayedCluster:
    """Each worker computes prompts one after another; every answer then takes `decode_s`."""

    scheduler: Scheduler
    decode_s: float = 0.0
    sent: list[tuple[float, Dispatch]] = field(default_factory=list)
    ended_at_s: dict[str, float] = field(default_factory=dict)
    first_token_at_s: dict[str, float] = field(default_factory=dict)
    _events: list[tuple[float, int, str]] = field(default_factory=list)
    _free_at_s: dict[str, float] = field(default_factory=dict)

    def run(self, arrivals: Iterable[RequestFacts], until_s: float = math.inf) -> None:
        """Play the arrivals, which are in order, until that instant or until all is over.

        The scheduler is asked when something happens and when it said that it wants to be.
        """
        coming = deque(arrivals)
        now_s = 0.0
        while True:
            arrival_s = coming[0].arrived_at_s if coming else math.inf
            event_s = self._events[0][0] if self._events else math.inf
            now_s = min(arrival_s, event_s, self.scheduler.next_decision_s(now_s))
            if now_s > until_s or now_s == math.inf:
                return
            while coming and coming[0].arrived_at_s <= now_s:
                self.scheduler.arrive(coming.popleft())
            while self._events and self._events[0][0] <= now_s:
                self._happen(*heapq.heappop(self._events))
            for dispatch in dispatched(self.scheduler, now_s):
                self._take(dispatch, now_s)

    def sent_ids(self) -> list[str]:
        return [dispatch.request_id for _, dispatch in self.sent]

    def sent_at_s(self, request_id: str) -> float:
        return next(at_s for at_s, dispatch in self.sent if dispatch.request_id == request_id)

    def _take(self, dispatch: Dispatch, now_s: float) -> None:
        self.sent.append((now_s, dispatch))
        worker_id = dispatch.prefill_worker_id or dispatch.worker_id
        begin_s = max(now_s, self._free_at_s.get(worker_id, now_s))
        end_s = begin_s + dispatch.predicted_prefill_s
        self._free_at_s[worker_id] = end_s
        heapq.heappush(self._events, (end_s, 0, dispatch.request_id))
        heapq.heappush(self._events, (end_s + self.decode_s, 1, dispatch.request_id))

    def _happen(self, at_s: float, is_end: int, request_id: str) -> None:
        if is_end:
            self.scheduler.over(request_id, at_s, None)
            self.ended_at_s[request_id] = at_s
        else:
            self.scheduler.prefill_over(request_id, at_s)
            self.first_token_at_s[request_id] = at_s
