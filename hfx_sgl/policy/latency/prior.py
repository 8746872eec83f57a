"""What is assumed of a device before it was observed."""

from dataclasses import dataclass

from hfx_sgl.policy.bounds import check, more_than

_MAX_SATURATING_RATIO = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyPrior:
    """Coefficients to start from.

    The defaults lie in the middle of what models of 8 to 32 billion weights take on one A100, one
    H100 or two H200, by the operator times of aiconfigurator-core 0.12.0 and 1 ms of host time for
    a step. The first few observations correct them, so that a factor of several is no harm.
    """

    prefill_s: float = 9e-3
    """Of a prefill step, whatever its size."""
    prefill_s_per_token_below_knee: float = 20e-6
    """For each new token up to `prefill.KNEE_TOKENS`."""
    prefill_s_per_token: float = 40e-6
    """For each further one."""
    prefill_s_per_pair: float = 1.6e-9
    """For each pair of a new token and a token it attends to."""
    decode_s: float = 10e-3
    """Of a decode step, whatever its size."""
    decode_s_per_running: float = 30e-6
    """For each running request."""
    decode_s_per_context_token: float = 50e-9
    """For each token of context, over all running requests."""
    decode_s_saturating: float = 2e-3
    """What a step with many running requests costs once, at few a part of it."""
    transfer_s: float = 2e-3
    """Of a KV transfer, whatever its size."""
    transfer_s_per_byte: float = 1e-10
    """10 GB/s."""

    def __post_init__(self) -> None:
        check(*(more_than(name, getattr(self, name), 0) for name in self.__dataclass_fields__))

    @property
    def prefill(self) -> tuple[float, ...]:
        """The coefficients of PrefillModel."""
        return (
            self.prefill_s,
            self.prefill_s_per_token_below_knee,
            self.prefill_s_per_token,
            self.prefill_s_per_pair,
        )

    @property
    def decode(self) -> tuple[float, ...]:
        """The coefficients of DecodeModel."""
        return (
            self.decode_s,
            self.decode_s_per_running,
            self.decode_s_per_context_token,
            self.decode_s_saturating,
        )

    @property
    def decode_scales(self) -> tuple[float, ...]:
        """How large they may well be: a mixture of experts saturates at several times the prior."""
        return *self.decode[:3], _MAX_SATURATING_RATIO * self.decode_s_saturating

    @property
    def transfer(self) -> tuple[float, ...]:
        """The coefficients of TransferModel."""
        return self.transfer_s, self.transfer_s_per_byte
