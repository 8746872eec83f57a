"""Models of random weights, made once and kept; and what the kernel keeps of them in memory."""

import os
import shutil
import subprocess
from pathlib import Path

from hfx_sgl.errors import LaunchError

SHAPES = {"tiny": (128, 2), "large": (1024, 10)}
"""Hidden size and layers: 1 MB and 189 MB of weights."""


def ensure_model(root: Path, sglang_python: str, name: str) -> Path:
    """Return the folder of a model, made on first use."""
    hidden_size, num_layers = SHAPES[name]
    folder = root / ".hfx" / "clone-bench" / name
    maker = root / "scripts" / "sglang_cpu" / "make_tiny_model.py"
    shape = ["--hidden-size", str(hidden_size), "--layers", str(num_layers)]
    done = subprocess.run(
        [sglang_python, str(maker), str(folder), *shape],
        stdout=subprocess.DEVNULL,
        check=False,
    )
    if done.returncode != 0:
        raise LaunchError(f"the model {name} was not made")
    return folder


def without_weights(model: Path, folder: Path) -> Path:
    """Copy everything but the weights and return the copy's folder."""
    folder.mkdir(parents=True)
    for path in model.iterdir():
        if path.suffix != ".safetensors":
            shutil.copy(path, folder)
    return folder


def weights_bytes(model: Path) -> int:
    """Return the size of a model's weight files."""
    return sum(path.stat().st_size for path in model.glob("*.safetensors"))


def forget(model: Path) -> None:
    """Have the kernel drop a model's weight files from memory, so that they are read anew."""
    for path in model.glob("*.safetensors"):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)
