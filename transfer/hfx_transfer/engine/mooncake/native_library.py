"""Loads the native library: that it really imports is the only proof that it can be used."""

import importlib
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path
from typing import Any, Protocol

from hfx_sgl.errors import TransferError, TransferFault
from hfx_transfer.engine.mooncake import environment
from hfx_transfer.engine.settings import EngineSettings
from hfx_transfer.memory.devices import MOONCAKE_DISTRIBUTIONS, conflicting_wheels

_MODULE = "mooncake.engine"
_ADAPTERS = Path("/sys/class/infiniband")

_REMEDIES = {
    "libibverbs.so.1": "Debian package libibverbs1",
    "libnuma.so.1": "Debian package libnuma1",
    "libcurl.so.4": "Debian package libcurl4",
    "libmlx5.so.1": "Debian package ibverbs-providers",
    "libcuda.so.1": "NVIDIA driver",
    "libcudart.so": "CUDA runtime of the version that this wheel was built for",
    "libascendcl.so": "CANN toolkit",
    "libmetadef.so": "CANN toolkit",
    "libllm_datadist.so": "CANN toolkit with HIXL",
}
"""Shared libraries that the wheels link to and do not carry, and what brings them."""


class NativeEngine(Protocol):
    """What this package calls of `mooncake.engine.TransferEngine`, and nothing else.

    Its other calls crash, block without a limit, spin, or hold the interpreter while they wait.
    All of these let other threads run meanwhile, except `initialize`, which takes under 1 ms
    over TCP.
    """

    def initialize(self, host: str, metadata: str, protocol: str, device: str, /) -> int:
        """Open its ports; 0 when that went well. Before this, any other call is a crash."""
        ...

    def get_rpc_port(self) -> int:
        """Return the port of its session."""
        ...

    def get_local_topology(self) -> str:
        """Return the adapters that it found, as JSON by location; blank over TCP."""
        ...

    def batch_register_memory(
        self, addresses: Sequence[int], sizes_bytes: Sequence[int], location: str, /
    ) -> int:
        """Let peers reach these ranges; 0 when that went well."""
        ...

    def batch_unregister_memory(self, addresses: Sequence[int], /) -> int:
        """Let no new transfer reach what begins at these addresses."""
        ...

    def batch_transfer_async_read(
        self,
        session: str,
        addresses: Sequence[int],
        remote_addresses: Sequence[int],
        sizes_bytes: Sequence[int],
        /,
    ) -> int:
        """Begin to read; return an id, or 0 for a refusal."""
        ...

    def batch_transfer_async_write(
        self,
        session: str,
        addresses: Sequence[int],
        remote_addresses: Sequence[int],
        sizes_bytes: Sequence[int],
        /,
    ) -> int:
        """Begin to write; return an id, or 0 for a refusal."""
        ...

    def transfer_check_status(self, transfer_id: int, /) -> int:
        """Return 0 while it runs, 1 when done, below 0 when failed; the latter two end the id."""
        ...

    def send_probe(self, session: str, /) -> int:
        """Exchange one message with the session's port; 0 when it answered."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Library:
    """The loaded module."""

    module: Any
    extra: str | None
    """Which of our extras its wheel belongs to (`cpu`, `cuda`, `npu`); None when unknown."""

    def supports(self, feature: str) -> bool:
        """Whether it was built with `feature`, as in its `SUPPORT_*` flags."""
        return bool(getattr(self.module, f"SUPPORT_{feature}", False))


def load(settings: EngineSettings) -> Library:
    """Set the environment and import Mooncake.

    Raises:
        TransferError: it is not installed or cannot be loaded; the message says what is missing
            (unavailable).
        ConfigError: see `environment.apply`.
    """
    names = list(_installed_names())
    conflict = conflicting_wheels(iter(names))
    if conflict is not None:
        raise TransferError(conflict, fault=TransferFault.UNAVAILABLE)
    extra = next((MOONCAKE_DISTRIBUTIONS[name] for name in names), None)
    table = environment.variables(settings, extra=extra, has_adapters=has_adapters())
    environment.apply(table, os.environ, is_loaded=_MODULE in sys.modules)
    try:
        module = importlib.import_module(_MODULE)
    except ImportError as error:
        raise TransferError(_explain(error), fault=TransferFault.UNAVAILABLE) from error
    return Library(module=module, extra=extra)


def has_adapters(folder: Path = _ADAPTERS) -> bool:
    """Whether the kernel knows an RDMA adapter."""
    return folder.is_dir() and any(folder.iterdir())


def _installed_names() -> Iterator[str]:
    for distribution in distributions():
        name = (distribution.metadata["Name"] or "").lower().replace("_", "-")
        if name in MOONCAKE_DISTRIBUTIONS:
            yield name


def _explain(error: ImportError) -> str:
    if isinstance(error, ModuleNotFoundError):
        remedy = "install hfx-sgl with one of the extras cpu, cuda, npu"
    else:
        missing = next((text for name, text in _REMEDIES.items() if name in str(error)), None)
        remedy = f"install the {missing}" if missing else "its wheel does not suit this machine"
    return f"Mooncake cannot be imported ({error}); {remedy}"
