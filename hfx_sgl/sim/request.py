"""One request under way in the simulator, and what a selection policy sees of it."""

from hfx_sgl.engine.request import EngineRequest
from hfx_sgl.sim.worker import SimWorker
from hfx_sgl.workload.planned import PlannedRequest
from hfx_sgl.workload.request_body import messages_json


class SimRequest:
    """What has become of a planned request so far. The simulation changes it."""

    __slots__ = (
        "first_token_at_s", "index", "is_prefill_over", "num_cached_tokens",
        "num_retractions", "planned", "prefill", "worker",
    )  # fmt: skip

    def __init__(self, index: int, planned: PlannedRequest) -> None:
        self.index = index
        """Its place in the order of arrival."""
        self.planned = planned
        self.prefill: SimWorker | None = None
        """The prefill worker, with PD disaggregation, once it is chosen."""
        self.worker: SimWorker | None = None
        """Who answers the client, once it is chosen."""
        self.first_token_at_s: float | None = None
        """When the answering worker had the first token."""
        self.num_cached_tokens = 0
        self.num_retractions = 0
        self.is_prefill_over = False
        """Whether the prefill worker has answered."""

    def for_engine(self) -> EngineRequest:
        """Return what a worker gets to compute."""
        planned = self.planned
        return EngineRequest(
            request_id=planned.request_id,
            prompt=planned.prompt,
            num_output_tokens=planned.num_output_tokens,
            max_new_tokens=planned.max_output_tokens,
            priority=planned.priority or 0,
        )


class PolicyRequest:
    """A RequestView: shows a policy the bytes that the router would show it."""

    __slots__ = ("_planned", "_prompt")

    def __init__(self, planned: PlannedRequest) -> None:
        self._planned = planned
        self._prompt: bytes | None = None

    @property
    def prompt(self) -> bytes:
        """See RequestView. Made when it is first asked for, and kept for one decision only."""
        if self._prompt is None:
            self._prompt = messages_json(self._planned)
        return self._prompt

    @property
    def routing_key(self) -> str | None:
        """See RequestView."""
        return self._planned.routing_key
