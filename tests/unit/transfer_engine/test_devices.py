import os
import sys
from types import ModuleType

import pytest
from hfx_transfer.memory import devices
from hfx_transfer.memory.allocate import allocate
from hfx_transfer.memory.devices import DeviceKind, conflicting_wheels, device_kind

from hfx_sgl.errors import TransferError, TransferFault


@pytest.mark.parametrize(
    ("device", "kind"),
    [("cpu", DeviceKind.CPU), ("cuda:3", DeviceKind.CUDA), ("npu:0", DeviceKind.NPU)],
)
def test_a_device_string_names_its_kind(device: str, kind: DeviceKind) -> None:
    assert device_kind(device) is kind


@pytest.mark.parametrize("device", ["", "gpu", "cuda:", "cuda:x", "cpux", "meta", "CPU"])
def test_other_strings_name_no_device(device: str) -> None:
    with pytest.raises(ValueError, match=r"names none of cpu, cuda:N, npu:N"):
        device_kind(device)


@pytest.mark.parametrize(
    "installed",
    [
        [],
        ["torch", "mooncake"],
        ["mooncake-transfer-engine-non-cuda", "torch"],
        ["mooncake-transfer-engine-npu", "mooncake-transfer-engine-npu"],
    ],
)
def test_one_mooncake_wheel_is_no_conflict(installed: list[str]) -> None:
    assert conflicting_wheels(iter(installed)) is None


def test_two_mooncake_wheels_are_named_with_their_extras() -> None:
    names = ["mooncake-transfer-engine", "torch", "mooncake-transfer-engine-npu"]
    problem = conflicting_wheels(iter(names))
    assert problem is not None
    assert "mooncake-transfer-engine (extra cuda), mooncake-transfer-engine-npu (extra npu)" in (
        problem
    )
    assert "Uninstall all of them" in problem


def test_without_torch_every_device_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    problems = devices.usable_devices()
    assert set(problems) == set(DeviceKind)
    assert all("extra cpu" in (problem or "") for problem in problems.values())
    with pytest.raises(TransferError) as caught:
        allocate(16, "cuda:0")
    assert caught.value.fault is TransferFault.UNAVAILABLE


def test_torch_is_imported_without_its_plugins_and_the_environment_is_put_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = []

    def fake_import(name: str) -> ModuleType:
        seen.append((name, os.environ["TORCH_DEVICE_BACKEND_AUTOLOAD"]))
        raise RuntimeError("Failed to load the backend extension: torch_npu")

    monkeypatch.setattr("importlib.import_module", fake_import)
    monkeypatch.setenv("TORCH_DEVICE_BACKEND_AUTOLOAD", "1")
    with pytest.raises(TransferError, match="Failed to load the backend extension"):
        devices.import_torch()
    assert seen == [("torch", "0")]
    assert os.environ["TORCH_DEVICE_BACKEND_AUTOLOAD"] == "1"
    monkeypatch.delenv("TORCH_DEVICE_BACKEND_AUTOLOAD")
    with pytest.raises(TransferError):
        devices.import_torch()
    assert "TORCH_DEVICE_BACKEND_AUTOLOAD" not in os.environ


def test_the_cpu_needs_no_waiting_and_no_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    devices.synchronize("cpu")
    assert allocate(4096).device == "cpu"


def test_a_cuda_device_is_synchronised_before_its_memory_is_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waited: list[str] = []
    torch = ModuleType("torch")
    torch.cuda = ModuleType("torch.cuda")  # type: ignore[attr-defined]
    torch.cuda.synchronize = waited.append
    monkeypatch.setitem(sys.modules, "torch", torch)
    devices.synchronize("cuda:1")
    assert waited == ["cuda:1"]


def test_an_npu_without_cann_is_told_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = ModuleType("torch")
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch_npu", None)
    with pytest.raises(TransferError, match=r"npu:0: torch_npu cannot be imported .* extra npu"):
        devices.require_device("npu:0")
