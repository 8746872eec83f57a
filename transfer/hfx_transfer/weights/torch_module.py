"""Gives a module the tensors that were loaded: checks them against it, then puts them in."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hfx_sgl.errors import TransferError, TransferFault
from hfx_transfer.memory.devices import import_torch
from hfx_transfer.weights.layout import Layout
from hfx_transfer.weights.torch_weights import named_tensors, spec_of

if TYPE_CHECKING:
    import torch

_MAX_LISTED = 10


def check_module(module: "torch.nn.Module", layout: Layout) -> None:
    """Compare a layout with what a module needs.

    Of tensors that the module ties, one suffices.

    Raises:
        TransferError: names are missing or left over, or a type or shape differs (incompatible);
            the message names the first of them.
    """
    offered = {place.name: (place.dtype, place.shape) for place in layout.tensors}
    needed = named_tensors(module)
    problems = []
    for names in _tied_groups(module):
        if not any(name in offered for name in names):
            problems.append(f"{names[0]} is missing")
    for name, tensor in needed.items():
        spec = spec_of(name, tensor)
        found = offered.get(name)
        if found is not None and found != (spec.dtype, spec.shape):
            problems.append(
                f"{name} is {found[0]} {list(found[1])}, the module has {spec.dtype} "
                f"{list(spec.shape)}"
            )
    problems += [f"{name} is not in the module" for name in offered if name not in needed]
    if problems:
        listed = "; ".join(problems[:_MAX_LISTED])
        more = f"; and {len(problems) - _MAX_LISTED} more" if problems[_MAX_LISTED:] else ""
        raise TransferError(f"tensors differ: {listed}{more}", fault=TransferFault.INCOMPATIBLE)


def device_of(module: "torch.nn.Module") -> str:
    """Return where all tensors of a module lie; `cpu` when they lie nowhere yet.

    Raises:
        TransferError: they are on several devices (incompatible).
    """
    devices = {str(tensor.device) for tensor in named_tensors(module).values()} - {"meta"}
    if len(devices) > 1:
        raise TransferError(
            f"the module lies on {' and '.join(sorted(devices))}, only one device can be loaded",
            fault=TransferFault.INCOMPATIBLE,
        )
    return devices.pop() if devices else "cpu"


def put_into(module: "torch.nn.Module", tensors: "Mapping[str, torch.Tensor]") -> None:
    """Make a module's parameters and buffers these tensors, without a copy.

    Parameters stay the same objects, so that optimisers and tied modules keep them, except for
    those of the meta device, which get new ones; tied ones stay tied.
    """
    torch = import_torch()
    replaced: dict[int, Any] = {}
    for names in _tied_groups(module):
        value = next(tensors[name] for name in names if name in tensors)
        for name in names:
            owner_name, _, own_name = name.rpartition(".")
            owner = module.get_submodule(owner_name)
            old = getattr(owner, own_name)
            if not old.is_meta:
                old.data = value
            elif own_name in owner._parameters:
                new = replaced.get(id(old))
                if new is None:
                    new = torch.nn.Parameter(value, requires_grad=old.requires_grad)
                    replaced[id(old)] = new
                owner._parameters[own_name] = new
            else:
                owner._buffers[own_name] = value


def _tied_groups(module: "torch.nn.Module") -> list[list[str]]:
    """Return the names of the state dict, those of one and the same tensor together."""
    groups: dict[int, list[str]] = {}
    for name, tensor in sorted(module.state_dict(keep_vars=True).items()):
        groups.setdefault(id(tensor), []).append(name)
    return list(groups.values())
