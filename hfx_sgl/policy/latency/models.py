"""The latency models of one class of workers: same model, device and role."""

from hfx_sgl.policy.latency.config import FitConfig
from hfx_sgl.policy.latency.decode import DecodeModel
from hfx_sgl.policy.latency.fit import LatencyFit
from hfx_sgl.policy.latency.prefill import PrefillModel
from hfx_sgl.policy.latency.prior import LatencyPrior
from hfx_sgl.policy.latency.snapshot import LatencySnapshot
from hfx_sgl.policy.latency.transfer import TransferModel


class LatencyModels:
    """Predicts from the first moment on, by the prior, and learns from what is observed.

    Each model's `fit` tells whether it is warm, its residuals and how often the device changed.
    """

    __slots__ = ("decode", "prefill", "transfer")

    def __init__(
        self,
        prior: LatencyPrior | None = None,
        config: FitConfig | None = None,
        saved: LatencySnapshot | None = None,
    ) -> None:
        """Start from `saved` models where there are some, else from the prior.

        Raises:
            ConfigError: `saved` does not fit these models.
        """
        prior = prior or LatencyPrior()
        config = config or FitConfig()
        self.prefill = PrefillModel(
            LatencyFit(prior.prefill, prior.prefill, config, saved.prefill if saved else None)
        )
        self.decode = DecodeModel(
            LatencyFit(prior.decode, prior.decode_scales, config, saved.decode if saved else None)
        )
        self.transfer = TransferModel(
            LatencyFit(prior.transfer, prior.transfer, config, saved.transfer if saved else None)
        )

    @classmethod
    def from_snapshot(
        cls,
        saved: LatencySnapshot,
        prior: LatencyPrior | None = None,
        config: FitConfig | None = None,
    ) -> "LatencyModels":
        """Return models that predict as those did of which `saved` was taken.

        Raises:
            ConfigError: `saved` does not fit these models.
        """
        return cls(prior, config, saved)

    def snapshot(self) -> LatencySnapshot:
        """Return what is worth saving."""
        return LatencySnapshot(
            prefill=self.prefill.fit.snapshot(),
            decode=self.decode.fit.snapshot(),
            transfer=self.transfer.fit.snapshot(),
        )
