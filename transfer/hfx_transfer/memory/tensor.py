"""Memory that a torch tensor already occupies, on any device, and tensors that look at a slab."""

import ctypes
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hfx_transfer.memory.devices import import_torch
from hfx_transfer.memory.pins import PinnedSlab
from hfx_transfer.memory.slab import Slab

if TYPE_CHECKING:
    import torch


class TensorSlab(PinnedSlab):
    """The bytes of one contiguous tensor. Holds the tensor until it is closed and unpinned.

    Args:
        tensor: contiguous, with at least one element. To offer a whole storage, pass
            `torch.empty(0, dtype=torch.uint8, device=d).set_(storage)`.

    Raises:
        ValueError: the tensor is empty or has gaps.
    """

    def __init__(self, tensor: "torch.Tensor") -> None:
        size_bytes = tensor.numel() * tensor.element_size()
        if size_bytes == 0 or not tensor.is_contiguous():
            raise ValueError(
                f"a slab needs a contiguous tensor with elements, not one of shape "
                f"{tuple(tensor.shape)} and strides {tensor.stride()}"
            )
        super().__init__(size_bytes=size_bytes, device=str(tensor.device))
        self._tensor: torch.Tensor | None = tensor.detach()
        self._address: int = tensor.data_ptr()

    @property
    def address(self) -> int:
        """Where it begins, in this process or on its device."""
        return self._address

    def bytes_tensor(self) -> "torch.Tensor":
        """Return the bytes as a flat uint8 tensor on the slab's device.

        Raises:
            ValueError: the slab was closed and nothing pins it.
        """
        torch = import_torch()
        return self._held().reshape(-1).view(torch.uint8)

    def view(self) -> memoryview:
        """Return the bytes themselves, writable; they keep the tensor alive.

        Raises:
            ValueError: they are on a device that the CPU does not address, or were given back.
        """
        tensor = self._held()
        if tensor.device.type != "cpu":
            raise ValueError(f"the CPU does not address memory of {self.device}")
        array = (ctypes.c_ubyte * self.size_bytes).from_address(self._address)
        array.owner = tensor  # type: ignore[attr-defined]
        return memoryview(array).cast("B")

    def _held(self) -> "torch.Tensor":
        if self._tensor is None:
            raise ValueError("the slab was closed")
        return self._tensor

    def _release(self) -> None:
        self._tensor = None


def bytes_tensor(slab: Slab) -> "torch.Tensor":
    """Return all bytes of any slab as a flat uint8 tensor, without a copy.

    It keeps the memory alive for as long as it or a tensor made of it exists, but it does not pin
    the slab.
    """
    if isinstance(slab, TensorSlab):
        return slab.bytes_tensor()
    torch = import_torch()
    return torch.frombuffer(slab.view(), dtype=torch.uint8)


def tensor_in(
    slab: Slab, *, offset_bytes: int, dtype: "torch.dtype", shape: Sequence[int]
) -> "torch.Tensor":
    """Return a tensor whose elements are the slab's bytes from `offset_bytes` on, without a copy.

    Raises:
        ValueError: it would reach outside of the slab, or the offset is no multiple of an
            element's size.
    """
    num_elements = 1
    for length in shape:
        num_elements *= length
    end_bytes = offset_bytes + num_elements * dtype.itemsize
    if not 0 <= offset_bytes <= end_bytes <= slab.size_bytes or offset_bytes % dtype.itemsize:
        raise ValueError(
            f"{dtype} {tuple(shape)} at {offset_bytes} does not fit a slab of "
            f"{slab.size_bytes} bytes"
        )
    return bytes_tensor(slab)[offset_bytes:end_bytes].view(dtype).view(tuple(shape))
