"""Latency models that learn online how long a class of workers takes.

One `LatencyModels` serves all workers of one model, device and role; `ModelCatalog` keeps one for
each such class, and `WorkerLatency` adds what sets one worker apart from its class.
"""

from hfx_sgl.policy.latency.catalog import ModelCatalog
from hfx_sgl.policy.latency.decode import DecodeModel
from hfx_sgl.policy.latency.models import LatencyModels
from hfx_sgl.policy.latency.prefill import PrefillModel
from hfx_sgl.policy.latency.prior import LatencyPrior
from hfx_sgl.policy.latency.snapshot import LatencySnapshot, ModelSnapshot
from hfx_sgl.policy.latency.speed import SpeedConfig, WorkerSpeed
from hfx_sgl.policy.latency.transfer import TransferModel
from hfx_sgl.policy.latency.worker import WorkerLatency

__all__ = [
    "DecodeModel",
    "LatencyModels",
    "LatencyPrior",
    "LatencySnapshot",
    "ModelCatalog",
    "ModelSnapshot",
    "PrefillModel",
    "SpeedConfig",
    "TransferModel",
    "WorkerLatency",
    "WorkerSpeed",
]
