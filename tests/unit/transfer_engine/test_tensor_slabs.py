import gc
import weakref

import pytest
import torch
from hfx_transfer.memory.allocate import allocate
from hfx_transfer.memory.copying import copy_into, copy_out_of
from hfx_transfer.memory.host import HostSlab
from hfx_transfer.memory.shared import SharedSlab
from hfx_transfer.memory.tensor import TensorSlab, bytes_tensor, tensor_in
from support.slabs import pattern


class OnDevice(TensorSlab):
    """A tensor of host memory that claims to be on a device the CPU does not address."""

    def __init__(self, tensor: torch.Tensor) -> None:
        super().__init__(tensor)
        self._device = "cuda:0"

    def view(self) -> memoryview:
        raise ValueError("the CPU does not address memory of cuda:0")


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.bfloat16, torch.float8_e4m3fn, torch.int64, torch.bool]
)
def test_a_tensor_and_its_slab_are_the_same_bytes(dtype: torch.dtype) -> None:
    tensor = torch.zeros((3, 8), dtype=dtype)
    slab = TensorSlab(tensor)
    assert slab.address == tensor.data_ptr()
    assert slab.size_bytes == 24 * dtype.itemsize
    assert (slab.device, slab.shared_name) == ("cpu", None)
    slab.view()[-1] = 1
    assert slab.bytes_tensor()[-1] == 1
    assert tensor.view(torch.uint8).reshape(-1)[-1] == 1
    assert tensor.view(torch.uint8).count_nonzero() == 1


def test_a_parameter_that_wants_gradients_can_be_a_slab() -> None:
    parameter = torch.nn.Parameter(torch.ones(4))
    TensorSlab(parameter).view()[:] = bytes(16)
    assert not parameter.any()


@pytest.mark.parametrize("tensor", [torch.zeros(0), torch.zeros(4, 4).t()[1:], torch.zeros(8)[::2]])
def test_a_tensor_with_gaps_or_nothing_in_it_is_refused(tensor: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="contiguous tensor with elements"):
        TensorSlab(tensor)


def test_a_slab_holds_its_tensor_until_the_last_pin_and_view_are_gone() -> None:
    tensor = torch.zeros(16)
    storage = weakref.ref(tensor.untyped_storage())
    slab = TensorSlab(tensor)
    slab.pin()
    slab.close()
    del tensor
    gc.collect()
    slab.view()[0] = 1
    view = slab.view()
    slab.unpin()
    with pytest.raises(ValueError, match="closed"):
        slab.view()
    with pytest.raises(ValueError, match="closed"):
        slab.bytes_tensor()
    assert view[0] == 1
    del view
    gc.collect()
    assert storage() is None


@pytest.mark.parametrize("make", [HostSlab, SharedSlab, allocate])
def test_tensors_look_at_a_slab_without_a_copy(make: type[HostSlab]) -> None:
    slab = make(4096)
    tensor = tensor_in(slab, offset_bytes=512, dtype=torch.bfloat16, shape=(2, 3))
    assert tensor.data_ptr() == slab.address + 512
    tensor.fill_(1)
    assert bytes(slab.view()[512:516]) == b"\x80\x3f\x80\x3f"
    assert bytes_tensor(slab).count_nonzero() == 12
    slab.close()
    tensor.fill_(2)
    assert tensor.sum() == 12, "the tensor keeps the memory"


def test_a_tensor_without_elements_and_a_scalar_fit() -> None:
    slab = HostSlab(16)
    assert tensor_in(slab, offset_bytes=16, dtype=torch.float32, shape=(0, 5)).shape == (0, 5)
    assert tensor_in(slab, offset_bytes=12, dtype=torch.float32, shape=()).shape == ()


@pytest.mark.parametrize(("offset", "shape"), [(-4, (1,)), (0, (5,)), (16, (1,)), (2, (1,))])
def test_a_tensor_that_does_not_fit_is_refused(offset: int, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="does not fit a slab of 16 bytes"):
        tensor_in(HostSlab(16), offset_bytes=offset, dtype=torch.float32, shape=shape)


@pytest.mark.parametrize("make", [TensorSlab, OnDevice])
def test_bytes_are_copied_in_and_out(make: type[TensorSlab]) -> None:
    memory = torch.zeros(1000, dtype=torch.uint8)
    slab = make(memory)
    copy_into(slab, 100, memoryview(bytearray(pattern(800, 1))))
    assert bytes(memory.tolist()) == bytes(100) + pattern(800, 1) + bytes(100)
    back = bytearray(800)
    copy_out_of(slab, 100, memoryview(back))
    assert back == pattern(800, 1)


@pytest.mark.parametrize(("offset", "size"), [(-1, 5), (996, 5), (1000, 1), (0, 0)])
def test_a_copy_beyond_the_slab_is_refused(offset: int, size: int) -> None:
    slab = HostSlab(1000)
    for copy in (copy_into, copy_out_of):
        with pytest.raises(ValueError, match="not within a slab of 1000"):
            copy(slab, offset, memoryview(bytearray(size)))


def test_device_memory_without_a_tensor_cannot_be_copied() -> None:
    slab = HostSlab(1000)
    slab._device = "npu:0"
    with pytest.raises(ValueError, match="npu:0 can be reached through a tensor only"):
        copy_into(slab, 0, memoryview(bytearray(10)))
