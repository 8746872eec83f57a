"""New SGLang servers take their weights from running ones, and pass them on."""

from hfx_transfer.sglang.weights.attempt import CloneOutcome
from hfx_transfer.sglang.weights.plan import ClonePlan, plan_clone
from hfx_transfer.sglang.weights.settings import CloneSettings
from hfx_transfer.sglang.weights.spec import CloneSpec
from hfx_transfer.sglang.weights.start import start_clones

__all__ = ["CloneOutcome", "ClonePlan", "CloneSettings", "CloneSpec", "plan_clone", "start_clones"]
