from pathlib import Path

import pytest

from hfx_sgl.launch.args import devices_needed, planned_flags_in
from hfx_sgl.launch.devices import Device, detect_device, present_device_ids


@pytest.mark.parametrize(
    ("nodes", "device", "ids"),
    [
        ([], Device.CPU, ()),
        (["null", "nvidiactl", "nvidia-uvm", "davinci_manager"], Device.CPU, ()),
        (["nvidia0", "nvidia10", "nvidia2", "nvidiactl"], Device.CUDA, ("0", "2", "10")),
        (["davinci0", "davinci1", "davinci_manager"], Device.NPU, ("0", "1")),
    ],
)
def test_the_accelerator_is_found_by_its_device_nodes(
    tmp_path: Path, nodes: list[str], device: Device, ids: tuple[str, ...]
) -> None:
    for node in nodes:
        (tmp_path / node).touch()
    assert detect_device(tmp_path) is device
    assert present_device_ids(device, tmp_path) == ids


def test_a_machine_without_dev_has_a_cpu(tmp_path: Path) -> None:
    assert detect_device(tmp_path / "missing") is Device.CPU


@pytest.mark.parametrize(
    ("tp_size", "args", "needed"),
    [
        (4, (), 4),
        (2, ("--pp-size", "2"), 4),
        (2, ("--pipeline-parallel-size=3",), 6),
        (2, ("--dp-size", "2"), 4),
        (8, ("--dp-size", "8", "--enable-dp-attention"), 8),
        (1, ("--dp-size", "2", "--data-parallel-size", "3"), 3),
        (1, ("--pp-size",), 1),
        (1, ("--pp-size", "two"), 1),
    ],
)
def test_parallel_sizes_multiply(tp_size: int, args: tuple[str, ...], needed: int) -> None:
    assert devices_needed(tp_size, args) == needed


def test_planned_flags_are_found_in_both_spellings() -> None:
    args = ("--a", "--port", "1", "--host=h", "port", "--portal")
    assert planned_flags_in(args, frozenset(("--port", "--host"))) == ["--port", "--host"]
