"""A request as an engine takes it."""

from dataclasses import dataclass

from hfx_sgl.prompt import Prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineRequest:
    """One sequence to compute. The members of a client's batch are requests of their own."""

    request_id: str
    """Unique among the requests that the engine has."""
    prompt: Prompt
    num_output_tokens: int
    """How many tokens it produces before it stops, at least 1; the engine plans without it."""
    max_new_tokens: int
    """What the engine has to expect, at least `num_output_tokens`."""
    priority: int = 0
    """Higher goes first, where the engine schedules by priority."""
