"""Torch modules and state dicts as weights: which tensors they are, and where they lie.

A module is what its state dict says: parameters and persistent buffers. torch is imported when a
function needs it.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import structlog

from hfx_sgl.errors import TransferError, TransferFault
from hfx_transfer.memory.devices import import_torch, synchronize
from hfx_transfer.memory.layout import ALIGNMENT_BYTES
from hfx_transfer.memory.slab import Slab
from hfx_transfer.memory.tensor import TensorSlab, bytes_tensor, tensor_in
from hfx_transfer.weights.dtypes import TORCH_NAMES
from hfx_transfer.weights.layout import Layout, TensorPlace, TensorSpec, gaps, lay_out, place_of
from hfx_transfer.weights.slabs import make_slabs

if TYPE_CHECKING:
    import torch

_log = structlog.get_logger(__name__)

_FEW_SLABS = 64
"""Pieces of memory that are worth registering as they are; engines take quadratic time."""
_MIN_COVERED_RATIO = 0.9
"""How much of a piece must be weights, besides padding: the rest would be sent along."""


def named_tensors(weights: "torch.nn.Module | Mapping[str, torch.Tensor]") -> "dict[str, Any]":
    """Return the tensors of a module or state dict by name, in that order.

    Raises:
        TransferError: something is no dense tensor with memory (incompatible); it is named.
    """
    torch = import_torch()
    state = weights if isinstance(weights, Mapping) else weights.state_dict()
    found = {}
    for name in sorted(state):
        tensor = state[name]
        if not isinstance(tensor, torch.Tensor):
            raise _incompatible(name, f"is a {type(tensor).__name__}, no tensor")
        if tensor.layout is not torch.strided or tensor.is_quantized:
            raise _incompatible(name, "is not dense")
        if dtype_name(tensor.dtype) is None:
            raise _incompatible(name, f"has the type {tensor.dtype}, which has no portable name")
        found[name] = tensor.detach()
    return found


def dtype_name(dtype: "torch.dtype") -> str | None:
    """Return the portable name of a type; None when it has none."""
    own = str(dtype).removeprefix("torch.")
    return next((name for name, torch_name in TORCH_NAMES.items() if torch_name == own), None)


def spec_of(name: str, tensor: "torch.Tensor") -> TensorSpec:
    """Return what a tensor of `named_tensors` is."""
    dtype = dtype_name(tensor.dtype)
    assert dtype is not None
    return TensorSpec(name=name, dtype=dtype, shape=tuple(tensor.shape))


def ties(tensors: "Mapping[str, torch.Tensor]") -> dict[str, str]:
    """Return for each tensor that is the same memory as an earlier one that one's name."""
    first: dict[tuple[object, ...], str] = {}
    tied = {}
    for name, tensor in tensors.items():
        if tensor.numel() == 0 or tensor.is_meta:
            continue
        key = (
            tensor.device, tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride()
        )  # fmt: skip
        if first.setdefault(key, name) != name:
            tied[name] = first[key]
    return tied


def place(
    tensors: "Mapping[str, torch.Tensor]", *, copy: bool | None
) -> tuple[Layout, list[Slab], bool]:
    """Return slabs that hold these tensors, and whether they are a copy.

    Args:
        tensors: from `named_tensors`.
        copy: True for a copy in shared memory, False for the tensors' own memory, None for their
            own memory when it lies in few pieces that hold little else, else for a copy.

    Raises:
        TransferError: their own memory was asked for and cannot be served (incompatible).
    """
    meta = next((name for name, tensor in tensors.items() if tensor.is_meta), None)
    if meta is not None:
        raise _incompatible(meta, "is on the meta device: it has no bytes")
    if copy is not True:
        try:
            layout, slabs = _own_memory(tensors, max_slabs=_FEW_SLABS if copy is None else None)
        except TransferError as exc:
            if copy is False:
                raise
            _log.info("weights_copied", reason=str(exc))
        else:
            _log.info("weights_served_in_place", num_slabs=len(slabs))
            return layout, slabs, False
    layout = lay_out((spec_of(n, t) for n, t in tensors.items()), tied_to=ties(tensors))
    slabs = make_slabs(layout.slab_sizes_bytes, "cpu", shareable=True)
    for where in layout.tensors:
        if where.size_bytes:
            view_of(where, slabs).copy_(tensors[where.name])
    return layout, slabs, True


def view_of(where: TensorPlace, slabs: Sequence[Slab]) -> "torch.Tensor":
    """Return a tensor whose elements are the slab's bytes; it keeps them alive."""
    torch = import_torch()
    dtype = getattr(torch, TORCH_NAMES[where.dtype], None)
    if dtype is None:
        raise _incompatible(where.name, f"has the type {where.dtype}, too new for this torch")
    if not where.size_bytes:
        return torch.empty(where.shape, dtype=dtype, device=slabs[0].device if slabs else "cpu")
    return tensor_in(
        slabs[where.slab], offset_bytes=where.offset_bytes, dtype=dtype, shape=where.shape
    )


def state_dict(layout: Layout, slabs: Sequence[Slab]) -> "dict[str, torch.Tensor]":
    """Return all tensors by name, without a copy. Tied ones are the same object."""
    made: dict[tuple[object, ...], torch.Tensor] = {}
    found = {}
    for where in layout.tensors:
        key = (where.slab, where.offset_bytes, where.size_bytes, where.dtype, where.shape)
        if key not in made or not where.size_bytes:
            made[key] = view_of(where, slabs)
        found[where.name] = made[key]
    return found


def _own_memory(
    tensors: "Mapping[str, torch.Tensor]", *, max_slabs: int | None
) -> tuple[Layout, list[Slab]]:
    """Return the memory that the tensors are in as slabs.

    Raises:
        TransferError: it is scattered, or holds other things (incompatible).
    """
    storages: dict[tuple[object, int], tuple[int, Any]] = {}
    places = []
    for name, tensor in tensors.items():
        spec = spec_of(name, tensor)
        if not spec.size_bytes:
            places.append(place_of(spec, 0, 0))
            continue
        if not tensor.is_contiguous():
            raise _incompatible(name, "is not contiguous")
        storage = tensor.untyped_storage()
        index, _ = storages.setdefault(
            (tensor.device, storage.data_ptr()), (len(storages), storage)
        )
        places.append(place_of(spec, index, tensor.data_ptr() - storage.data_ptr()))
    if max_slabs is not None and len(storages) > max_slabs:
        raise TransferError(
            f"the tensors lie in {len(storages)} pieces of memory, more than {max_slabs}",
            fault=TransferFault.INCOMPATIBLE,
        )
    slabs = [_storage_slab(storage) for _, storage in storages.values()]
    layout = Layout(
        tensors=tuple(places), slab_sizes_bytes=tuple(slab.size_bytes for slab in slabs)
    )
    _refuse_overlaps(layout)
    _refuse_strange_bytes(layout, slabs)
    return layout, slabs


def _storage_slab(storage: Any) -> Slab:
    torch = import_torch()
    device = str(storage.device)
    synchronize(device)
    return TensorSlab(torch.empty(0, dtype=torch.uint8, device=device).set_(storage))


def _refuse_overlaps(layout: Layout) -> None:
    spans = sorted({(p.slab, p.offset_bytes, p.end_bytes) for p in layout.tensors if p.size_bytes})
    for before, after in pairwise(spans):
        if before[0] == after[0] and after[1] < before[2]:
            raise TransferError(
                "some tensors share parts of their memory", fault=TransferFault.INCOMPATIBLE
            )


def _refuse_strange_bytes(layout: Layout, slabs: Sequence[Slab]) -> None:
    """Refuse memory with much besides weights, or with anything but zeros between them."""
    for index, slab in enumerate(slabs):
        between = gaps(layout, index)
        num_strange = sum(end - begin for begin, end in between)
        num_inside = sum(place.slab == index for place in layout.tensors)
        padding = ALIGNMENT_BYTES * num_inside
        if num_strange > slab.size_bytes * (1 - _MIN_COVERED_RATIO) + padding:
            raise TransferError(
                f"{num_strange} of {slab.size_bytes} bytes of their memory are something else",
                fault=TransferFault.INCOMPATIBLE,
            )
        content = bytes_tensor(slab)
        if any(content[begin:end].any().item() for begin, end in between):
            raise TransferError(
                "there is something else between them in memory", fault=TransferFault.INCOMPATIBLE
            )


def _incompatible(name: str, what: str) -> TransferError:
    return TransferError(f"tensor {name} {what}", fault=TransferFault.INCOMPATIBLE)
