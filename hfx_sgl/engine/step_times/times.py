"""What the engine model asks of a table of step times."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol


class PrefillPart(NamedTuple):
    """What one request contributes to a prefill step."""

    num_new_tokens: int
    """Tokens to compute, at least 1."""
    num_prefix_tokens: int
    """Tokens before them whose KV is there already."""


class StepTimes(Protocol):
    """Device time of the three kinds of steps, without host overhead.

    `num_context_tokens` is the total over the running requests before the step; each step adds
    one token to each of them.
    """

    def prefill_s(self, parts: Sequence[PrefillPart]) -> float:
        """Return the time of a step that computes prompts only. `parts` is not empty."""
        ...

    def mixed_s(
        self, parts: Sequence[PrefillPart], num_running: int, num_context_tokens: int
    ) -> float:
        """Return the time of a step that computes prompts and one token of each running request."""
        ...

    def decode_s(self, num_running: int, num_context_tokens: int) -> float:
        """Return the time of one decode step."""
        ...

    def decode_steps_s(self, num_running: int, num_context_tokens: int, num_steps: int) -> float:
        """Return the time of consecutive decode steps of the same requests."""
        ...

    def decode_steps_within(
        self, num_running: int, num_context_tokens: int, overhead_s: float, duration_s: float
    ) -> int:
        """Return how many consecutive decode steps end within a duration.

        Each takes `overhead_s` more than the table says. The inverse of `decode_steps_s`: the
        answer n is the largest with `decode_steps_s(.., n) + n * overhead_s <= duration_s`.
        """
        ...

    @property
    def num_extrapolated(self) -> int:
        """How many answers lay outside the measured range."""
        ...
