"""One request under way in the simulator, and what a selection policy sees of it."""

from hfx_sgl.engine.request import EngineRequest
from hfx_sgl.sim.worker import SimWorker
from hfx_sgl.workload.planned import PlannedRequest
from hfx_sgl.workload.request_body import messages_json


class SimRequest:
    """What has become of a planned request so far. The simulation changes it."""

    __slots__ = (
        "first_token_at_s", "index", "is_answered", "is_prefill_over", "is_withdrawn", "legs",
        "num_cached_tokens", "num_recalls", "num_retractions", "planned", "prefill", "priority",
        "worker",
    )  # fmt: skip

    def __init__(self, index: int, planned: PlannedRequest, num_recalls: int = 0) -> None:
        self.index = index
        """Its place in the order of arrival."""
        self.planned = planned
        self.num_recalls = num_recalls
        """How often it was taken back from its workers before."""
        self.priority = planned.priority or 0
        """For engines that schedule by it."""
        self.prefill: SimWorker | None = None
        """The prefill worker, with PD disaggregation, once it is chosen."""
        self.worker: SimWorker | None = None
        """Who answers the client, once it is chosen."""
        self.first_token_at_s: float | None = None
        """When the answering worker had the first token."""
        self.num_cached_tokens = 0
        self.num_retractions = 0
        self.legs: list[SimWorker] = []
        """Workers that it was sent to and that have not answered, as the router knows it."""
        self.is_prefill_over = False
        """Whether the prefill worker has answered."""
        self.is_answered = False
        """Whether the answering worker has done all that it was asked to."""
        self.is_withdrawn = False
        """Whether the router took it back; another SimRequest goes on in its place."""

    @property
    def engine_id(self) -> str:
        """What engines call it: they must not mix it up with itself before it was taken back."""
        request_id = self.planned.request_id
        return f"{request_id}~{self.num_recalls}" if self.num_recalls else request_id

    def for_engine(self) -> EngineRequest:
        """Return what a worker gets to compute."""
        planned = self.planned
        return EngineRequest(
            request_id=self.engine_id,
            prompt=planned.prompt,
            num_output_tokens=planned.num_output_tokens,
            max_new_tokens=planned.max_output_tokens,
            priority=self.priority,
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
