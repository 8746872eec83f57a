"""Which devices this process can use, found by trying, and how to wait for one.

Imports torch and torch_npu only inside of functions.
"""

import importlib
import importlib.metadata
import os
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from types import ModuleType
from typing import TYPE_CHECKING, Any

from hfx_sgl.errors import TransferError, TransferFault

if TYPE_CHECKING:
    pass

_AUTOLOAD = "TORCH_DEVICE_BACKEND_AUTOLOAD"

MOONCAKE_DISTRIBUTIONS = {
    "mooncake-transfer-engine-non-cuda": "cpu",
    "mooncake-transfer-engine": "cuda",
    "mooncake-transfer-engine-cuda13": "cuda",
    "mooncake-transfer-engine-npu": "npu",
    "mooncake-transfer-engine-rocm": "rocm",
}
"""Wheels that all install the same `mooncake` package, and the extra that each belongs to."""


class DeviceKind(StrEnum):
    """What kinds of memory bytes may move from and to."""

    CPU = "cpu"
    CUDA = "cuda"
    NPU = "npu"


def import_torch() -> Any:
    """Import torch without the device plug-ins it would load by itself.

    With torch_npu installed and CANN missing, a plain `import torch` raises RuntimeError, so
    that host memory could not be used either.

    Raises:
        TransferError: torch is not installed or does not load (unavailable).
    """
    try:
        with _no_autoload():
            return importlib.import_module("torch")
    except (ImportError, OSError, RuntimeError) as error:
        raise _unavailable(f"torch cannot be imported ({error}); {_hint('cpu')}") from error


def device_kind(device: str) -> DeviceKind:
    """Return what kind of device a string such as `cuda:1` names.

    Raises:
        ValueError: it is none that is supported.
    """
    name, colon, index = device.partition(":")
    for kind in DeviceKind:
        if kind == name and (not colon or index.isdecimal()):
            return kind
    raise ValueError(f"{device!r} names none of cpu, cuda:N, npu:N")


def usable_devices() -> dict[DeviceKind, str | None]:
    """Return for each kind of device None when it can be used here, else why it cannot."""
    return {kind: _problem_with(kind) for kind in DeviceKind}


def require_device(device: str) -> None:
    """Make sure that memory of `device` can be used, importing what that takes.

    Raises:
        TransferError: it cannot; the message says what is missing (unavailable).
        ValueError: `device` names none.
    """
    problem = _problem_with(device_kind(device))
    if problem is not None:
        raise _unavailable(f"{device}: {problem}")


def synchronize(device: str) -> None:
    """Wait until everything queued on the device has happened; nothing to wait for on the CPU.

    To be called before its memory is handed to an engine, which reads and writes outside of
    torch's streams.
    """
    match device_kind(device):
        case DeviceKind.CPU:
            return
        case DeviceKind.CUDA:
            import_torch().cuda.synchronize(device)
        case DeviceKind.NPU:
            import_npu().synchronize(device)


def import_npu() -> ModuleType:
    """Import torch_npu, by which torch learns of NPUs, and return `torch.npu`.

    Raises:
        TransferError: it is not installed, or CANN is missing (unavailable).
    """
    torch = import_torch()
    try:
        with _no_autoload():
            importlib.import_module("torch_npu")
    except (ImportError, OSError, RuntimeError) as error:
        raise _unavailable(f"torch_npu cannot be imported ({error}); {_hint('npu')}") from error
    module: ModuleType = torch.npu
    return module


def conflicting_wheels(installed: Iterator[str] | None = None) -> str | None:
    """Return what is wrong with the Mooncake wheels installed; None when at most one is.

    pip does not see that they overwrite each other's files, and removing one then breaks the
    other.

    Args:
        installed: names of distributions; None for those of this environment.
    """
    names = _installed_names() if installed is None else installed
    found = sorted({name for name in names if name in MOONCAKE_DISTRIBUTIONS})
    if len(found) < 2:
        return None
    extras = ", ".join(f"{name} (extra {MOONCAKE_DISTRIBUTIONS[name]})" for name in found)
    return (
        f"{len(found)} Mooncake wheels are installed over each other: {extras}. Uninstall all of "
        f"them, then install hfx-sgl with one extra: cpu, cuda or npu"
    )


def _problem_with(kind: DeviceKind) -> str | None:
    try:
        torch = import_torch()
        if kind is DeviceKind.CPU:
            return None
        if kind is DeviceKind.CUDA and torch.version.cuda is None:
            return f"torch {torch.__version__} was built without CUDA; {_hint('cuda')}"
        driver = torch.cuda if kind is DeviceKind.CUDA else import_npu()
        return None if driver.is_available() else f"torch sees no {kind} device"
    except TransferError as error:
        return str(error)


def _installed_names() -> Iterator[str]:
    for distribution in importlib.metadata.distributions():
        name = distribution.metadata["Name"]
        if name:
            yield name.lower().replace("_", "-")


@contextmanager
def _no_autoload() -> Iterator[None]:
    before = os.environ.get(_AUTOLOAD)
    os.environ[_AUTOLOAD] = "0"
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(_AUTOLOAD, None)
        else:
            os.environ[_AUTOLOAD] = before


def _hint(extra: str) -> str:
    return f"install hfx-sgl with the extra {extra}, and only that one of cpu, cuda and npu"


def _unavailable(message: str) -> TransferError:
    return TransferError(message, fault=TransferFault.UNAVAILABLE)
