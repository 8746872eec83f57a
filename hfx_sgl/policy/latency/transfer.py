"""How long the KV of a prompt is under way from a prefill worker to a decode worker."""

from hfx_sgl.policy.latency.fit import FLOOR_S, LatencyFit


class TransferModel:
    """`x0 + x1 * size`, with the size in bytes."""

    __slots__ = ("_x0", "_x1", "fit")

    def __init__(self, fit: LatencyFit) -> None:
        """Take a fit of two coefficients."""
        self.fit = fit
        self._x0, self._x1 = fit.coefficients

    def predict_s(self, num_bytes: int) -> float:
        """Return the time from the end of prefill to the arrival of the KV; always above 0."""
        time_s = self._x0 + self._x1 * num_bytes
        return time_s if time_s > FLOOR_S else FLOOR_S

    def observe(self, num_bytes: int, duration_s: float) -> None:
        """Learn from a transfer; what makes no sense is ignored."""
        if self.fit.observe((1.0, num_bytes), duration_s):
            self._x0, self._x1 = self.fit.coefficients
