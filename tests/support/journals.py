"""A journal with decisions about two workers, for tests of what is told of them."""

import math
from typing import Any

from hfx_router.metrics.class_labels import ClassLabels
from hfx_router.metrics.scheduling_recorder import SchedulingRecorder
from hfx_router.scheduling.journal import Journal

from hfx_sgl.clock import FakeClock
from hfx_sgl.policy.scheduler.decision import Candidate, Decision, Reason
from hfx_sgl.policy.scheduler.facts import RequestFacts
from hfx_sgl.slo import Slo

CANDIDATES = (
    Candidate(
        worker_id="u1",
        begins_in_s=0.0,
        prefill_s=0.12,
        num_hit_tokens=768,
        step_s=0.0215,
        has_room=True,
    ),
    Candidate(
        worker_id="u2",
        begins_in_s=0.03,
        prefill_s=0.2,
        num_hit_tokens=0,
        step_s=None,
        has_room=False,
    ),
)


def make_decision(request_id: str = "1", reason: Reason = Reason.ON_TIME, **given: Any) -> Decision:
    """A request of class chat that waited 40 ms and goes to u1."""
    fields: dict[str, Any] = {
        "request_id": request_id,
        "class_name": "chat",
        "at_s": 100.0,
        "waited_s": 0.04,
        "reason": reason,
        "worker_id": "u1",
        "prefill_worker_id": None,
        "predicted_ttft_s": 0.2,
        "predicted_tpot_s": 0.025,
        "slack_s": 0.78,
        "num_prompt_tokens": 1000,
        "num_hit_tokens": 768,
        "expected_output_tokens": 200,
        "num_waiting": 3,
        "num_late": 1,
        "candidates": CANDIDATES,
    }
    return Decision(**fields | given)


def make_facts(request_id: str = "1", class_name: str = "chat", **slo: float) -> RequestFacts:
    """A request that came at 99.96 s."""
    return RequestFacts(
        request_id=request_id,
        class_name=class_name,
        arrived_at_s=99.96,
        slo=Slo(**slo),
        num_prompt_tokens=1000,
    )


def make_journal(num_kept: int = 10, now_s: float = 100.0) -> Journal:
    """An empty one."""
    recorder = SchedulingRecorder(ClassLabels())
    return Journal(recorder, num_kept=num_kept, now_s=FakeClock(now_s).now_s)


def tell(
    journal: Journal,
    request_id: str = "1",
    reason: Reason = Reason.ON_TIME,
    *,
    class_name: str = "chat",
    ttft_s: float = math.inf,
    **given: Any,
) -> None:
    """Have a request apply and be decided about; its client knows it as `req-ID`."""
    journal.applied(make_facts(request_id, class_name, ttft_s=ttft_s), f"req-{request_id}".encode())
    journal.decided(make_decision(request_id, reason, class_name=class_name, **given))
