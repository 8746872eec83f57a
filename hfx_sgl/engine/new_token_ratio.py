"""Which share of `max_new_tokens` the running requests are expected to use."""

from collections.abc import Iterable

from hfx_sgl.engine.sequence import Sequence

INITIAL_RATIO = 0.7
MIN_RATIO_FACTOR = 0.14
NUM_DECAY_STEPS = 600
NUM_RETRACT_STEPS = 20
"""SGLang's `SGLANG_INIT_NEW_TOKEN_RATIO`, `SGLANG_MIN_NEW_TOKEN_RATIO_FACTOR`,
`SGLANG_NEW_TOKEN_RATIO_DECAY_STEPS` and `SGLANG_RETRACT_DECODE_STEPS`."""


class NewTokenRatio:
    """Falls with each decode step that finds room, and is raised when requests are retracted."""

    def __init__(self, conservativeness: float) -> None:
        self._initial = min(INITIAL_RATIO * conservativeness, 1.0)
        self._min = self._initial * MIN_RATIO_FACTOR
        self._decay = (self._initial - self._min) / NUM_DECAY_STEPS
        # The value that it was set to last, and the steps since: the same whether these were
        # counted one by one or all at once.
        self._set_to = self._initial
        self._num_steps = 0

    @property
    def current(self) -> float:
        """The share, 0..1."""
        return max(self._set_to - self._num_steps * self._decay, self._min)

    @property
    def is_decaying(self) -> bool:
        """Whether another decode step lowers it."""
        return self.current > self._min

    def decay(self, num_steps: int) -> None:
        """Account for decode steps."""
        self._num_steps += num_steps

    def raise_for(self, kept: Iterable[Sequence]) -> None:
        """Set it to what the sequences that were not retracted have used so far.

        Their `num_outputs` must be up to date.
        """
        num_outputs = num_kept = num_max_new = 0
        for sequence in kept:
            num_outputs += sequence.num_outputs
            num_max_new += sequence.max_new_tokens
            num_kept += 1
        self._set(min(1.0, (num_outputs + NUM_RETRACT_STEPS * num_kept) / (num_max_new + 1)))

    def reset(self) -> None:
        """Begin anew, as an idle engine does."""
        self._set(self._initial)

    def _set(self, value: float) -> None:
        self._set_to = value
        self._num_steps = 0
