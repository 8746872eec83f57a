"""How a client sets `max_tokens`."""

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputLimit:
    """The larger of a fixed bound and a multiple of the true length, never below the truth."""

    bound_tokens: int = 1
    multiple: float = 1.0

    def of(self, num_output_tokens: int) -> int:
        """Return what a client allows that will receive `num_output_tokens`."""
        return max(
            self.bound_tokens, num_output_tokens, math.ceil(self.multiple * num_output_tokens)
        )
