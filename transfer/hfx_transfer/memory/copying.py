"""Copies between a slab, wherever it is, and host memory. Releases the GIL meanwhile.

What a device has been given to do with the bytes must have happened before: copies are queued on
its default stream, which waits for no other (`devices.synchronize`).
"""

import ctypes
from typing import TYPE_CHECKING

from hfx_transfer.memory.devices import import_torch
from hfx_transfer.memory.slab import Slab
from hfx_transfer.memory.tensor import TensorSlab

if TYPE_CHECKING:
    import torch

STAGE_BYTES = 4 << 20
"""How much of a device slab goes through host memory at a time."""


def is_host(slab: Slab) -> bool:
    """Whether the CPU addresses the slab's bytes, so that nothing has to be staged."""
    return slab.device == "cpu"


def new_stage(slab: Slab) -> memoryview:
    """Return STAGE_BYTES of host memory for bytes on their way to or from a device slab.

    It is locked in memory, from which devices copy without a detour.
    """
    torch = import_torch()
    stage = torch.empty(STAGE_BYTES, dtype=torch.uint8, pin_memory=not is_host(slab))
    return TensorSlab(stage).view()


def copy_into(slab: Slab, offset_bytes: int, source: memoryview) -> None:
    """Copy host bytes into a slab; they are there when it returns.

    Raises:
        ValueError: they do not fit, or the slab is on a device and no tensor.
    """
    _check(slab, offset_bytes, source)
    if is_host(slab):
        ctypes.memmove(slab.address + offset_bytes, _address_of(source), source.nbytes)
        return
    _device_part(slab, offset_bytes, source.nbytes).copy_(_as_tensor(source))


def copy_out_of(slab: Slab, offset_bytes: int, target: memoryview) -> None:
    """Copy a slab's bytes into host memory; they are there when it returns.

    Raises:
        ValueError: the slab has not as many, or is on a device and no tensor.
    """
    _check(slab, offset_bytes, target)
    if is_host(slab):
        ctypes.memmove(_address_of(target), slab.address + offset_bytes, target.nbytes)
        return
    _as_tensor(target).copy_(_device_part(slab, offset_bytes, target.nbytes))


def _check(slab: Slab, offset_bytes: int, host: memoryview) -> None:
    if not 0 <= offset_bytes < offset_bytes + host.nbytes <= slab.size_bytes:
        raise ValueError(
            f"{host.nbytes} bytes at {offset_bytes} are not within a slab of {slab.size_bytes}"
        )


def _address_of(host: memoryview) -> int:
    return ctypes.addressof(ctypes.c_ubyte.from_buffer(host))


def _as_tensor(host: memoryview) -> "torch.Tensor":
    numbers = import_torch()
    tensor: torch.Tensor = numbers.frombuffer(host, dtype=numbers.uint8)
    return tensor


def _device_part(slab: Slab, offset_bytes: int, size_bytes: int) -> "torch.Tensor":
    if not isinstance(slab, TensorSlab):
        raise ValueError(f"memory of {slab.device} can be reached through a tensor only")
    return slab.bytes_tensor()[offset_bytes : offset_bytes + size_bytes]
