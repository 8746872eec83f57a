"""How long a prefill step takes."""

from collections.abc import Sequence

from hfx_sgl.policy.latency.fit import FLOOR_S, LatencyFit

KNEE_TOKENS = 320
"""About where a device's arithmetic takes as long as reading the weights (H100: 300, A100: 200)."""


Features = tuple[float, float, float, float]
"""What the coefficients of a `PrefillModel` multiply, of one prompt or summed over several."""


class PrefillModel:
    """`a0 + a1 * min(n, knee) + a2 * max(n - knee, 0) + a3 * n * (p + n / 2)`.

    For n new tokens behind p tokens of cached prefix. The first term is what a step costs at all.
    Short prompts cost little more than reading the weights, longer ones the work of each token in
    the layers: the second and third term. The last is attention: new token i attends to the p of
    the prefix and to i - 1 of its own prompt, n * (p + n / 2) pairs in all. With a1 = a2 this is
    the usual `a + b n + c n (p + n / 2)`, which is 4 to 9 % off the measured operator times of
    dense models where this is 2 to 4 % off.
    """

    __slots__ = ("_a0", "_a1", "_a2", "_a3", "_knee_s", "fit")

    def __init__(self, fit: LatencyFit) -> None:
        """Take a fit of four coefficients."""
        self.fit = fit
        self._load()

    def predict_s(self, num_new_tokens: int, num_prefix_tokens: int) -> float:
        """Return the time of a step for one prompt; always above 0, and no less for more tokens."""
        n = num_new_tokens
        time_s = n * self._a3 * (num_prefix_tokens + 0.5 * n)
        if n > KNEE_TOKENS:
            time_s += self._knee_s + self._a2 * (n - KNEE_TOKENS)
        else:
            time_s += self._a0 + self._a1 * n
        return time_s if time_s > FLOOR_S else FLOOR_S

    @staticmethod
    def features(num_new_tokens: int, num_prefix_tokens: int) -> Features:
        """Return what the coefficients multiply, that of `a0` first."""
        n = num_new_tokens
        pairs = n * (num_prefix_tokens + 0.5 * n)
        if n > KNEE_TOKENS:
            return 1.0, KNEE_TOKENS, n - KNEE_TOKENS, pairs
        return 1.0, n, 0.0, pairs

    def total_s(self, features: Sequence[float]) -> float:
        """Return the time of several steps together, from the sums of their features."""
        return sum(a * b for a, b in zip(self.fit.coefficients, features, strict=True))

    def observe(self, num_new_tokens: int, num_prefix_tokens: int, duration_s: float) -> None:
        """Learn from a step; what makes no sense is ignored."""
        self.observe_total(self.features(num_new_tokens, num_prefix_tokens), duration_s)

    def observe_total(self, features: Sequence[float], duration_s: float) -> None:
        """Learn from several steps together: the sums of their features and of their times."""
        if self.fit.observe(features, duration_s):
            self._load()

    def _load(self) -> None:
        self._a0, self._a1, self._a2, self._a3 = self.fit.coefficients
        self._knee_s = self._a0 + self._a1 * KNEE_TOKENS


def added(one: Features, other: Features) -> Features:
    """Return the features of the prompts of both."""
    return one[0] + other[0], one[1] + other[1], one[2] + other[2], one[3] + other[3]
