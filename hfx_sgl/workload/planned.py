"""One request of a workload, planned before the run."""

from dataclasses import dataclass, field

from hfx_sgl.prompt import Prompt
from hfx_sgl.slo import Slo


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedRequest:
    """A request that is going to arrive. A workload yields them in order of `at_s`."""

    request_id: str
    """Unique within the workload."""
    class_name: str
    at_s: float
    """When it arrives, counted from the start of the run."""
    prompt: Prompt
    num_output_tokens: int
    """How many tokens the model will produce. Only engines and clairvoyant bounds may know it."""
    max_output_tokens: int
    """What the client allows (`max_tokens`), at least `num_output_tokens`."""
    slo: Slo = field(default_factory=Slo)
    priority: int | None = None
    routing_key: str | None = None
    """Names the session or tenant (`x-smg-routing-key`); None when the client sends none."""
