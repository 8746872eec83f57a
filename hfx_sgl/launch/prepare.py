"""Brings about what a launch needs beside the plan: environments and a model, made on first use."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

from hfx_sgl.errors import ConfigError, LaunchError
from hfx_sgl.launch.devices import Device

TINY_MODEL_NAME = "tiny"
"""What the made model is called by clients; its folder's path would be an odd name."""


def sglang_venv_python(root: Path) -> str:
    """Return the interpreter of the SGLang CPU environment of a checkout, built or not."""
    venv = os.environ.get("HFX_SGLANG_VENV")
    return str((Path(venv).absolute() if venv else root / ".venv-sglang") / "bin" / "python")


def tiny_model_path(root: Path) -> str:
    """Return where a checkout keeps its tiny model, made or not."""
    return str(root / ".hfx" / "tiny-llama")


def ensure_sglang_cpu(root: Path) -> None:
    """Build the SGLang CPU environment unless it is up to date."""
    _run([str(root / "scripts" / "install_sglang_cpu")], "the SGLang environment was not built")


def ensure_tiny_model(root: Path, sglang_python: str) -> None:
    """Make the tiny model unless it is there."""
    maker = root / "scripts" / "sglang_cpu" / "make_tiny_model.py"
    # Starting an interpreter to be told that all is well would cost as much as a server does.
    if not (Path(tiny_model_path(root)) / "config.json").exists():
        _run([sglang_python, str(maker), tiny_model_path(root)], "the tiny model was not made")


def accelerator_python(device: Device) -> str:
    """Return this interpreter when it has SGLang; on accelerators nothing is installed for you.

    Raises:
        ConfigError: it has not.
    """
    if importlib.util.find_spec("sglang") is None:
        raise ConfigError(
            f"sglang_python: {sys.executable} has no sglang; name the interpreter that has it, "
            f"built for {device}"
        )
    return sys.executable


def ensure_router_python(root: Path) -> str:
    """Return an interpreter that has the router; the checkout's own is made when needed."""
    if importlib.util.find_spec("hfx_router") is not None:
        return sys.executable
    library = root / "scripts" / "lib" / "bootstrap.sh"
    script = f'set -euo pipefail; source "{library}"; ensure_router_venv; echo "$VENV_PYTHON"'
    return _run(["bash", "-c", script], "the router's environment was not made").strip()


def _run(command: list[str], failure: str) -> str:
    """Run a command that reports on stderr, and return what it prints."""
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise LaunchError(f"{failure} ({command[0]} ended with status {done.returncode})")
    return done.stdout
