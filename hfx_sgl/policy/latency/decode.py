"""How long a decode step takes."""

from collections.abc import Sequence

from hfx_sgl.policy.latency.fit import FLOOR_S, LatencyFit
from hfx_sgl.policy.latency.moments import typical_steps

HALF_RUNNING = 16
"""Running requests at which half of what saturates is reached (128 experts, 8 for each token)."""


class DecodeModel:
    """`d0 + d1 * B + d2 * K + d3 * B / (B + half)`.

    For B running requests with K tokens of context in all. The first term is reading the weights
    that every step needs, the second the work of each request in the layers, the third reading the
    KV. The last is for mixtures of experts: the more requests, the more experts must be read, until
    all are. Dense models learn d3 = 0. Against measured operator times the form is 1 to 4 % off;
    without the last term it is as good for dense models and 20 % off for a mixture of experts.
    """

    __slots__ = ("_d0", "_d1", "_d2", "_d3", "fit")

    def __init__(self, fit: LatencyFit) -> None:
        """Take a fit of four coefficients."""
        self.fit = fit
        self._d0, self._d1, self._d2, self._d3 = fit.coefficients

    def predict_s(self, num_running: float, num_context_tokens: float) -> float:
        """Return the time of one step; always above 0, and no less for more of either."""
        if num_running <= 0:
            return self._d0 if self._d0 > FLOOR_S else FLOOR_S
        time_s = (
            self._d0
            + num_running * (self._d1 + self._d3 / (num_running + HALF_RUNNING))
            + self._d2 * num_context_tokens
        )
        return time_s if time_s > FLOOR_S else FLOOR_S

    def observe(self, num_running: float, num_context_tokens: float, step_s: float) -> None:
        """Learn from a step, or from the means over several; what makes no sense is ignored."""
        if not num_running > 0:
            return
        share = num_running / (num_running + HALF_RUNNING)
        if self.fit.observe((1.0, num_running, num_context_tokens, share), step_s):
            self._d0, self._d1, self._d2, self._d3 = self.fit.coefficients

    def observe_moments(
        self, previous: Sequence[float], current: Sequence[float], mean_context_tokens: float
    ) -> None:
        """Learn from two reports of a server about its steps since it started.

        `previous` and `current` are `decode_moments` of SGLang's `/v1/loads`, or empty where the
        server had not decoded; `mean_context_tokens` is the context of one running request, a mean
        over the time between them. A server that started anew in between is noticed.
        """
        for num_running, step_s in typical_steps(previous, current):
            self.observe(num_running, num_running * mean_context_tokens, step_s)
