"""From the end of a simulated request to its record. Knows times and reasons, decides nothing."""

import math

from hfx_sgl.engine.events import Finished, FinishReason
from hfx_sgl.engine.refusal import EngineRefusal, RefusalReason
from hfx_sgl.results.record import RequestRecord, Status
from hfx_sgl.sim.request import SimRequest

_TURNED_AWAY = frozenset((RefusalReason.NOT_READY, RefusalReason.QUEUE_FULL))
"""What a server answers with 503; the other reasons are a 400."""

_COMPLETE = frozenset((FinishReason.STOP, FinishReason.LENGTH))


def is_complete(event: Finished) -> bool:
    """Whether the engine did all that it was asked to."""
    return event.reason in _COMPLETE


def finished_record(request: SimRequest, event: Finished, network_s: float) -> RequestRecord:
    """Return the record of a request that a worker has finished or given up."""
    if not is_complete(event):
        is_busy = event.reason is FinishReason.EVICTED
        status = Status.REJECTED if is_busy else Status.FAILED
        return _record(request, status, network_s, error=event.reason.value)
    num_tokens = event.num_output_tokens
    e2e_s = event.at_s + network_s - request.planned.at_s
    return _record(request, Status.OK, network_s, output_tokens=num_tokens, e2e_s=e2e_s)


def refused_record(request: SimRequest, refusal: EngineRefusal, network_s: float) -> RequestRecord:
    """Return the record of a request that an engine did not take."""
    status = Status.REJECTED if refusal.reason in _TURNED_AWAY else Status.FAILED
    return _record(request, status, network_s, error=f"{refusal.reason}: {refusal}")


def rejected_record(request: SimRequest, network_s: float) -> RequestRecord:
    """Return the record of a request that the router turned away."""
    return _record(request, Status.REJECTED, network_s, error="slo_infeasible")


def unfinished_record(
    request: SimRequest, num_output_tokens: int, network_s: float
) -> RequestRecord:
    """Return the record of a request that was under way when the run ended."""
    return _record(
        request,
        Status.TIMED_OUT,
        network_s,
        output_tokens=num_output_tokens,
        error="not finished when the run ended",
    )


def _record(
    request: SimRequest,
    status: Status,
    network_s: float,
    *,
    output_tokens: int = 0,
    e2e_s: float | None = None,
    error: str | None = None,
) -> RequestRecord:
    planned = request.planned
    first_at_s = request.first_token_at_s
    ttft_s = None if first_at_s is None else first_at_s + network_s - planned.at_s
    tpot_s = None
    if e2e_s is not None and ttft_s is not None and output_tokens > 1:
        tpot_s = (e2e_s - ttft_s) / (output_tokens - 1)
    slo = planned.slo
    return RequestRecord(
        request_id=planned.request_id,
        class_name=planned.class_name,
        scheduled_at_s=planned.at_s,
        sent_at_s=planned.at_s,
        status=status,
        prompt_tokens=planned.prompt.num_tokens,
        output_tokens=output_tokens,
        ttft_s=ttft_s,
        tpot_s=tpot_s,
        e2e_s=e2e_s,
        ttft_slo_s=_promised(slo.ttft_s),
        tpot_slo_s=_promised(slo.tpot_s),
        e2e_slo_s=_promised(slo.e2e_s),
        cached_tokens=request.num_cached_tokens,
        num_retractions=request.num_retractions,
        prefill_worker=None if request.prefill is None else request.prefill.worker_id,
        worker=None if request.worker is None else request.worker.worker_id,
        error=error,
    )


def _promised(bound_s: float) -> float | None:
    """Return a bound as records have it: None where nothing was promised."""
    return None if bound_s == math.inf else bound_s
