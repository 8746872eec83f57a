"""Whether weights of a running server are those that a new one needs. Pure."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from hfx_transfer.sglang.weights.report import SourceReport
from hfx_transfer.sglang.weights.spec import CloneSpec, last_value, layout_of

_WEIGHT_FILES = ("*.safetensors", "*.bin", "*.pt", "*.pth", "*.gguf")


def reason_against(spec: CloneSpec, report: SourceReport, *, sglang_version: str) -> str | None:
    """Return why a new server cannot take its weights from this one; None when it can.

    A model is the same when it has the same name or comes from the same path: shapes alone do
    not tell a model from another that was trained from it.
    """
    identity, build = report.identity, report.build
    if spec.served_model_name != identity.served_model_name and (
        spec.model_path != identity.model_path
    ):
        return (
            f"it serves {identity.served_model_name} from {identity.model_path}, wanted is "
            f"{spec.served_model_name}"
        )
    if identity.load_format == "dummy":
        return "its weights are random (load format dummy)"
    if build.version != sglang_version:
        return f"it runs SGLang {build.version}, the new server {sglang_version}"
    device = last_value(spec.args, ("--device",))
    if device is not None and device != build.device:
        return f"its weights are on {build.device}, wanted is {device}"
    if spec.weight_version not in (None, identity.weight_version):
        return f"it holds weight version {identity.weight_version}, wanted is {spec.weight_version}"
    return _layout_difference(layout_of(spec.args), dict(build.layout))


def common_version(reports: Sequence[SourceReport]) -> str | None:
    """Return the weight version that most of them hold, of equals the first; None of nobody.

    Servers that are started together must not answer with different weights.
    """
    counts = Counter(report.identity.weight_version for report in reports)
    return counts.most_common(1)[0][0] if counts else None


def disk_problem(model_path: str) -> str | None:
    """Return why weights cannot be read from disk; None when they can, as far as one can see."""
    folder = Path(model_path)
    if not folder.is_dir():
        # A hub id: SGLang knows where to look.
        return None
    if any(next(folder.glob(pattern), None) is not None for pattern in _WEIGHT_FILES):
        return None
    return f"{model_path} holds no weights"


def _layout_difference(wanted: dict[str, str], theirs: dict[str, str]) -> str | None:
    names = [name for name, value in wanted.items() if theirs.get(name) != value]
    if not names:
        return None
    shown = ", ".join(
        f"{name} is {theirs.get(name) or 'not set'}, wanted is {wanted[name] or 'not set'}"
        for name in names
    )
    return f"its weights lie differently in memory: {shown}"
