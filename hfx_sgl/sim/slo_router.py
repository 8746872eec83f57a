"""The scheduler's place in the simulator: what the router hears, as the scheduler's words."""

from hfx_sgl.policy.latency.models import LatencyModels
from hfx_sgl.policy.prefix_index import BLOCK_BYTES, block_digests
from hfx_sgl.policy.scheduler.config import SchedulerConfig
from hfx_sgl.policy.scheduler.facts import RequestFacts, WorkerFacts, WorkerReport
from hfx_sgl.policy.scheduler.scheduler import Scheduler
from hfx_sgl.sim.request import SimRequest
from hfx_sgl.sim.router import Sender
from hfx_sgl.sim.worker import Pools, SimWorker
from hfx_sgl.types import Role
from hfx_sgl.workload.prompt_text import TOKEN_BYTES
from hfx_sgl.workload.request_body import messages_json

POLICY_NAME = "hfx"
_TICK_S = 0.005
_REPORT_EVERY_TICKS = 200
"""Workers are asked for their loads once a second."""
_BLOCK_TOKENS = BLOCK_BYTES / TOKEN_BYTES


class SloRouter:
    """Puts what happens to the scheduler and sends what it decides."""

    tick_interval_s = _TICK_S

    def __init__(self, pools: Pools, config: SchedulerConfig | None = None) -> None:
        self._models = LatencyModels()
        self._scheduler = Scheduler(config or SchedulerConfig(), self._models)
        self._workers = {worker.worker_id: worker for pool in pools.values() for worker in pool}
        self._is_pd = Role.DECODE in pools
        self._open: dict[str, SimRequest] = {}
        self._num_ticks = 0
        for worker in self._workers.values():
            capacity_tokens = worker.engine.load(0.0).max_total_num_tokens
            self._scheduler.add_worker(
                WorkerFacts(
                    worker_id=worker.worker_id,
                    role=worker.role,
                    kv_capacity_tokens=capacity_tokens,
                )
            )

    def on_arrival(self, request: SimRequest, sender: Sender, now_s: float) -> None:
        """See SimRouter."""
        planned = request.planned
        self._open[planned.request_id] = request
        self._scheduler.arrive(
            RequestFacts(
                request_id=planned.request_id,
                class_name=planned.class_name,
                arrived_at_s=now_s,
                slo=planned.slo,
                num_prompt_tokens=planned.prompt.num_tokens,
                max_output_tokens=planned.max_output_tokens,
                block_digests=block_digests(messages_json(planned)),
                block_tokens=_BLOCK_TOKENS,
            )
        )
        self._decide(sender, now_s)

    def on_first_token(self, request: SimRequest, sender: Sender, now_s: float) -> None:
        """See SimRouter."""
        if not self._is_pd:
            self._scheduler.prefill_over(request.planned.request_id, now_s)
            self._decide(sender, now_s)

    def on_leg_over(
        self, request: SimRequest, worker: SimWorker, sender: Sender, now_s: float
    ) -> None:
        """See SimRouter."""
        request_id = request.planned.request_id
        if worker.role is Role.PREFILL:
            if request_id in self._open:
                self._scheduler.prefill_over(request_id, now_s)
        else:
            del self._open[request_id]
            self._scheduler.over(request_id, now_s, request.planned.num_output_tokens)
        self._decide(sender, now_s)

    def on_tick(self, sender: Sender, now_s: float) -> None:
        """See SimRouter."""
        self._num_ticks += 1
        if self._num_ticks % _REPORT_EVERY_TICKS == 0:
            self._take_reports(now_s)
        self._decide(sender, now_s)

    def _decide(self, sender: Sender, now_s: float) -> None:
        for dispatch in self._scheduler.decide(now_s):
            prefill_id = dispatch.prefill_worker_id
            sender.send(
                self._open[dispatch.request_id],
                None if prefill_id is None else self._workers[prefill_id],
                self._workers[dispatch.worker_id],
                now_s,
            )

    def _take_reports(self, now_s: float) -> None:
        for worker in self._workers.values():
            load = worker.engine.load(now_s)
            num_running = load.num_running_reqs
            self._scheduler.report(
                worker.worker_id,
                WorkerReport(
                    num_prefill_tokens=load.total_prefill_uncached_tokens,
                    prefill_busy_s=load.total_prefill_busy_us / 1e6,
                    decode_moments=load.decode_moments,
                    mean_context_tokens=load.num_active_tokens / num_running if num_running else 0,
                ),
            )
