"""How much slower or faster one worker is than its class."""

from dataclasses import dataclass

from hfx_sgl.policy.bounds import at_least, check, more_than, within


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeedConfig:
    """How fast a worker's factor follows what it reports."""

    keep_ratio: float = 0.9
    """What is left of an observation's weight when the next one comes. Reports come about once a
    second, so the last ten seconds count: enough steps to tell one worker from the others."""
    prior_s: float = 0.5
    """Seconds of work at the speed of the class that are assumed: a single short step says little
    of a worker, and one that reports no more work is taken for usual again."""
    usual_ratio: float = 1.1
    """A worker within this of its class is taken for usual, its factor for exactly 1: devices of
    one kind differ by a few percent, and so does what a report attributes to them. Beyond it the
    factor rises steeply, and from the square of it on it is what was seen."""
    max_factor: float = 8.0
    """A worker counts as at most this many times slower or faster."""

    def __post_init__(self) -> None:
        check(
            within("keep_ratio", self.keep_ratio, 0.0, 0.999),
            more_than("prior_s", self.prior_s, 0),
            at_least("usual_ratio", self.usual_ratio, 1),
            more_than("max_factor", self.max_factor, 1),
        )


_MOST_S = 1e4
"""As in the fit: what takes hours was a stall."""


class WorkerSpeed:
    """Actual time over predicted time of one kind of step on one worker, the older the less.

    The ratio of two fading sums: `(prior + sum of actual) / (prior + sum of predicted)`. So long
    steps count for more than short ones, which is what makes predictions of totals right. Small
    deviations are left out, so that equal workers are equal to whoever compares them.
    """

    __slots__ = ("_actual_s", "_config", "_predicted_s", "factor")

    def __init__(self, config: SpeedConfig | None = None) -> None:
        self._config = config or SpeedConfig()
        self._actual_s = 0.0
        self._predicted_s = 0.0
        self.factor = 1.0
        """What to multiply a prediction of the class by; 2: half as fast."""

    def observe(self, predicted_s: float, actual_s: float) -> None:
        """Take the work between two reports: its time by the model of the class, and as it was.

        To be called at each report. Without work, or with times that make no sense (not finite,
        not above 0), what was seen before fades all the same.
        """
        config = self._config
        keep = config.keep_ratio
        self._actual_s *= keep
        self._predicted_s *= keep
        most = config.max_factor
        if 0.0 < predicted_s <= _MOST_S and 0.0 < actual_s <= _MOST_S:
            self._predicted_s += predicted_s
            self._actual_s += min(max(actual_s, predicted_s / most), predicted_s * most)
        seen = (config.prior_s + self._actual_s) / (config.prior_s + self._predicted_s)
        self.factor = without_usual(seen, config.usual_ratio)


def without_usual(ratio: float, usual_ratio: float) -> float:
    """Return 1 for a ratio within `usual_ratio`, itself beyond the square of that; no jumps.

    Firm thresholding (Gao and Bruce 1997) of the ratio's logarithm.
    """
    beyond = max(ratio, 1.0 / ratio) / usual_ratio
    if beyond <= 1.0:
        return 1.0
    if beyond >= usual_ratio:
        return ratio
    return beyond**2 if ratio > 1.0 else beyond**-2
