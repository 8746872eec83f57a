"""Makes slabs on whichever device is asked for."""

from hfx_transfer.memory.devices import DeviceKind, device_kind, import_torch, require_device
from hfx_transfer.memory.host import HostSlab, check_size
from hfx_transfer.memory.slab import Slab
from hfx_transfer.memory.tensor import TensorSlab

_HCCS_ALIGNMENT_BYTES = 2 << 20
"""Where buffers on an NPU must begin for its direct links."""


def allocate(size_bytes: int, device: str = "cpu", *, prefault: bool = False) -> Slab:
    """Return a new slab of `size_bytes` on `device`; host memory is zeroed.

    Args:
        size_bytes: above 0.
        device: `cpu`, `cuda:N` or `npu:N`.
        prefault: host memory only: have all pages in place at once.

    Raises:
        TransferError: the device cannot be used here (unavailable).
        ValueError: `device` names none.
    """
    check_size(size_bytes)
    kind = device_kind(device)
    if kind is DeviceKind.CPU:
        return HostSlab(size_bytes, prefault=prefault)
    require_device(device)
    torch = import_torch()
    slack_bytes = _HCCS_ALIGNMENT_BYTES if kind is DeviceKind.NPU else 0
    memory = torch.empty(size_bytes + slack_bytes, dtype=torch.uint8, device=device)
    skipped_bytes = -memory.data_ptr() % _HCCS_ALIGNMENT_BYTES if slack_bytes else 0
    return TensorSlab(memory[skipped_bytes : skipped_bytes + size_bytes])
