"""Lets the CUDA-built torchvision wheel import beside a CPU build of torch.

SGLang imports torchvision unconditionally. The wheel's C extension needs CUDA's runtime library
and does not load here; torchvision carries on without it, except that registering the fake kernel
of `torchvision::nms` needs that operator's schema to exist. A `.pth` file imports this module at
interpreter start; the schemas are defined right before the first `import torchvision`, so that
a Python process that never does so does not pay for importing torch.
"""

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

_SIGNATURE = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


class _SchemaDefiner(MetaPathFinder):
    """Finds nothing; it only takes notice of the first look for torchvision."""

    def __init__(self) -> None:
        # Torch drops the schemas together with this object.
        self._library: object | None = None

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname == "torchvision" and self._library is None:
            import torch

            self._library = library = torch.library.Library("torchvision", "FRAGMENT")
            # Beside a CUDA build of torch the extension loads and brings its own schemas.
            if torch.version.cuda is None:
                for operator in ("nms", "qnms"):
                    library.define(operator + _SIGNATURE)
        return None


sys.meta_path.insert(0, _SchemaDefiner())
