"""Notices that a device has become slower or faster than the model says."""

from hfx_sgl.policy.latency.config import FitConfig


class DriftDetector:
    """Two-sided cumulative sum (CUSUM, Page 1954) over residuals.

    `S+ <- max(0, S+ + z - slack)` and the same with `-z`; drift is `S > threshold`.
    """

    __slots__ = ("_down", "_slack", "_threshold", "_up", "num_drifts")

    def __init__(self, config: FitConfig) -> None:
        self._slack = config.drift_slack
        self._threshold = config.drift_threshold
        self._up = 0.0
        self._down = 0.0
        self.num_drifts = 0

    def observe(self, residual: float) -> bool:
        """Take a residual in multiples of the usual one; return whether this makes it a drift.

        A drift starts the sums anew.
        """
        self._up = max(0.0, self._up + residual - self._slack)
        self._down = max(0.0, self._down - residual - self._slack)
        if max(self._up, self._down) <= self._threshold:
            return False
        self._up = self._down = 0.0
        self.num_drifts += 1
        return True
