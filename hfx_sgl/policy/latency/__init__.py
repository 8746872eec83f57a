"""Latency models that learn online how long a class of workers takes.

One `LatencyModels` serves all workers of one model, device and role.
"""

from hfx_sgl.policy.latency.decode import DecodeModel
from hfx_sgl.policy.latency.models import LatencyModels
from hfx_sgl.policy.latency.prefill import PrefillModel
from hfx_sgl.policy.latency.prior import LatencyPrior
from hfx_sgl.policy.latency.snapshot import LatencySnapshot, ModelSnapshot
from hfx_sgl.policy.latency.transfer import TransferModel

__all__ = [
    "DecodeModel",
    "LatencyModels",
    "LatencyPrior",
    "LatencySnapshot",
    "ModelSnapshot",
    "PrefillModel",
    "TransferModel",
]
