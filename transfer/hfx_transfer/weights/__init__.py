"""Weights from the memory of a running process into that of a new one.

`serve_weights` and `load_weights` are all that most need; the rest is for those who serve several
generations or choose every limit.
"""

from hfx_transfer.weights.api import hold_weights, load_weights, serve_weights
from hfx_transfer.weights.holding import Holding
from hfx_transfer.weights.lease import LeaseConfig
from hfx_transfer.weights.loaded import LoadedWeights
from hfx_transfer.weights.manifest import Manifest, ParallelRank
from hfx_transfer.weights.progress import LoadProgress, SourceReport
from hfx_transfer.weights.seed import Seed
from hfx_transfer.weights.settings import LoadSettings, SeedSettings

__all__ = [
    "Holding",
    "LeaseConfig",
    "LoadProgress",
    "LoadSettings",
    "LoadedWeights",
    "Manifest",
    "ParallelRank",
    "Seed",
    "SeedSettings",
    "SourceReport",
    "hold_weights",
    "load_weights",
    "serve_weights",
]
