"""The scheduler's place in the simulator: what the router hears, as the scheduler's words."""

import math
from collections.abc import Iterable

from hfx_sgl.engine.counters import BYTES_PER_GB
from hfx_sgl.engine.load import EngineLoad
from hfx_sgl.policy.latency.models import LatencyModels
from hfx_sgl.policy.latency.snapshot import LatencySnapshot
from hfx_sgl.policy.prefix_index import BLOCK_BYTES, block_digests
from hfx_sgl.policy.scheduler.config import SchedulerConfig
from hfx_sgl.policy.scheduler.facts import (
    Action,
    Dispatch,
    Recall,
    RequestFacts,
    WorkerFacts,
    WorkerReport,
)
from hfx_sgl.policy.scheduler.scheduler import Scheduler
from hfx_sgl.sim.knowledge import Knowledge
from hfx_sgl.sim.request import SimRequest
from hfx_sgl.sim.router import Sender
from hfx_sgl.sim.worker import Pools, SimWorker
from hfx_sgl.types import Role
from hfx_sgl.workload.planned import PlannedRequest
from hfx_sgl.workload.prompt_text import TOKEN_BYTES
from hfx_sgl.workload.request_body import messages_json

POLICY_NAME = "hfx"
REPORT_INTERVAL_S = 1.0
"""How often workers are asked for their loads."""
_BLOCK_TOKENS = BLOCK_BYTES / TOKEN_BYTES


class SloRouter:
    """Puts what happens to the scheduler and does what it decides.

    As in the router, decisions follow once everything that happened at an instant is told.

    Args:
        knowledge: what the scheduler gets to know; None: everything that a router does.
        seed: of the reports that are lost.
    """

    def __init__(
        self,
        pools: Pools,
        config: SchedulerConfig | None = None,
        knowledge: Knowledge | None = None,
        seed: int = 0,
    ) -> None:
        self._knowledge = knowledge = knowledge or Knowledge()
        self._seed = seed
        self._models = LatencyModels(saved=knowledge.saved_models)
        self._scheduler = Scheduler(config or SchedulerConfig(), self._models)
        self._workers = {worker.worker_id: worker for pool in pools.values() for worker in pool}
        self._is_pd = Role.DECODE in pools
        self._open: dict[str, SimRequest] = {}
        self._num_reports = 0
        self._is_due = False
        """Whether the decisions of this instant are still to come."""
        self._alarm_at_s = math.inf
        """When to decide though nothing happens; entries for other instants are stale."""
        for worker in self._workers.values():
            capacity_tokens = worker.engine.load(0.0).max_total_num_tokens
            self._scheduler.add_worker(
                WorkerFacts(
                    worker_id=worker.worker_id,
                    role=worker.role,
                    kv_capacity_tokens=capacity_tokens,
                )
            )

    @property
    def learnt(self) -> LatencySnapshot:
        """The latency models as they are."""
        return self._models.snapshot()

    # --- what happens ---

    def on_start(self, sender: Sender, now_s: float) -> None:
        """See SimRouter."""
        sender.call_at(now_s + REPORT_INTERVAL_S, self._ask_workers)

    def on_arrival(self, request: SimRequest, sender: Sender, now_s: float) -> None:
        """See SimRouter."""
        planned = request.planned
        self._open[planned.request_id] = request
        self._scheduler.arrive(self._facts(planned, now_s))
        self._decide_soon(sender, now_s)

    def on_first_token(self, request: SimRequest, sender: Sender, now_s: float) -> None:
        """See SimRouter."""
        if self._is_pd:
            self._scheduler.first_token(request.planned.request_id, now_s)
        else:
            self._scheduler.prefill_over(request.planned.request_id, now_s)
            self._decide_soon(sender, now_s)

    def on_leg_over(
        self, request: SimRequest, worker: SimWorker, sender: Sender, now_s: float
    ) -> None:
        """See SimRouter."""
        planned = request.planned
        if planned.request_id not in self._open:
            return  # the other leg was over before, and the request with it
        if worker is request.worker:
            del self._open[planned.request_id]
            num_tokens = planned.num_output_tokens if request.is_answered else None
            self._scheduler.over(planned.request_id, now_s, num_tokens)
        elif request.is_prefill_over:
            self._scheduler.prefill_over(planned.request_id, now_s)
        self._decide_soon(sender, now_s)

    def _facts(self, planned: PlannedRequest, now_s: float) -> RequestFacts:
        ratio = self._knowledge.estimate_ratio(planned.request_id)
        return RequestFacts(
            request_id=planned.request_id,
            class_name=planned.class_name,
            arrived_at_s=now_s,
            slo=planned.slo,
            num_prompt_tokens=max(1, round(ratio * planned.prompt.num_tokens)),
            max_output_tokens=planned.max_output_tokens,
            block_digests=block_digests(messages_json(planned)),
            block_tokens=ratio * _BLOCK_TOKENS,
        )

    # --- load reports ---

    def _ask_workers(self, sender: Sender, now_s: float) -> None:
        self._num_reports += 1
        for worker in self._workers.values():
            if not self._knowledge.is_lost(worker.worker_id, self._num_reports, self._seed):
                self._ask(worker, sender, now_s)
        sender.call_at(now_s + REPORT_INTERVAL_S, self._ask_workers)

    def _ask(self, worker: SimWorker, sender: Sender, now_s: float) -> None:
        report = _report(worker.engine.load(now_s), self._knowledge.tells_times)

        def arrive(sender: Sender, now_s: float) -> None:
            self._scheduler.report(worker.worker_id, report)
            self._decide_soon(sender, now_s)

        sender.call_at(now_s + self._knowledge.report_delay_s, arrive)

    # --- decisions ---

    def _decide_soon(self, sender: Sender, now_s: float) -> None:
        if not self._is_due:
            self._is_due = True
            sender.call_at(now_s, self._decide)

    def _decide(self, sender: Sender, now_s: float) -> None:
        self._is_due = False
        self._act(self._scheduler.decide(now_s), sender, now_s)
        at_s = self._scheduler.next_decision_s(now_s)
        if at_s != self._alarm_at_s:
            self._alarm_at_s = at_s
            if at_s < math.inf:
                sender.call_at(at_s, self._alarm)

    def _alarm(self, sender: Sender, now_s: float) -> None:
        if now_s == self._alarm_at_s:
            self._alarm_at_s = math.inf
            self._decide_soon(sender, now_s)

    def _act(self, actions: Iterable[Action], sender: Sender, now_s: float) -> None:
        for action in actions:
            request = self._open[action.request_id]
            if isinstance(action, Dispatch):
                self._send(action, request, sender, now_s)
            elif isinstance(action, Recall):
                self._recall(request, sender, now_s)
            else:
                del self._open[action.request_id]
                sender.reject(request, now_s)

    def _send(self, dispatch: Dispatch, request: SimRequest, sender: Sender, now_s: float) -> None:
        prefill_id = dispatch.prefill_worker_id
        prefill = None if prefill_id is None else self._workers[prefill_id]
        request.priority = dispatch.priority
        sender.send(request, prefill, self._workers[dispatch.worker_id], now_s)

    def _recall(self, request: SimRequest, sender: Sender, now_s: float) -> None:
        request_id = request.planned.request_id
        again = sender.withdraw(request, now_s)
        if again is not None:
            self._open[request_id] = again
            return
        # Its end is on the way back already: it cannot be sent twice.
        del self._open[request_id]
        self._scheduler.over(request_id, now_s, None)


def _report(load: EngineLoad, tells_times: bool) -> WorkerReport:
    """Return what the router makes of a worker's loads."""
    num_running = load.num_running_reqs
    return WorkerReport(
        num_prefill_tokens=load.total_prefill_uncached_tokens,
        prefill_busy_s=load.total_prefill_busy_us / 1e6 if tells_times else 0.0,
        decode_moments=load.decode_moments if tells_times else (),
        mean_context_tokens=load.num_active_tokens / num_running if num_running else 0,
        last_transfer_bytes=round(
            load.kv_transfer_speed_gb_s * BYTES_PER_GB * load.kv_transfer_latency_ms / 1e3
        ),
        last_transfer_s=load.kv_transfer_latency_ms / 1e3,
    )
