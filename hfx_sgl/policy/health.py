"""Turns probe results into healthy or not. Probing, and its timing, belong to the adapter."""

from dataclasses import dataclass

from hfx_sgl.policy.bounds import at_least, check


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthConfig:
    """How many probes in a row it takes. The defaults are those of sglang-router 0.3.2."""

    failure_threshold: int = 3
    success_threshold: int = 2

    def __post_init__(self) -> None:
        check(
            at_least("failure_threshold", self.failure_threshold, 1),
            at_least("success_threshold", self.success_threshold, 1),
        )


class HealthTracker:
    """The health of one worker.

    A worker that has never been healthy becomes so with its first good probe: it was starting,
    not failing, and traffic should not wait another probe interval for it. A worker that fell
    ill needs `success_threshold` good probes in a row.
    """

    __slots__ = ("_config", "_num_in_a_row", "_was_healthy", "is_healthy")

    def __init__(self, config: HealthConfig, is_healthy: bool = False) -> None:
        self._config = config
        self._was_healthy = is_healthy
        self._num_in_a_row = 0
        self.is_healthy = is_healthy
        """Written only here."""

    def record(self, ok: bool) -> bool:
        """Count one probe; return whether `is_healthy` changed."""
        if ok is self.is_healthy:
            self._num_in_a_row = 0
            return False
        self._num_in_a_row += 1
        if self._num_in_a_row < self._needed(ok):
            return False
        self._num_in_a_row = 0
        self._was_healthy = True
        self.is_healthy = ok
        return True

    def _needed(self, ok: bool) -> int:
        """Return how many probes in a row against the present state turn it."""
        if not ok:
            return self._config.failure_threshold
        return self._config.success_threshold if self._was_healthy else 1
