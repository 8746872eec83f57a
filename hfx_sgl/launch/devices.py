"""What each kind of device needs from SGLang: flags, environment, transfer backend.

Pure but for `detect_device` and `present_device_ids`, which only look into /dev. Never imports
torch: asking it would load gigabytes into a process that merely starts others.
"""

import re
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path

from hfx_sgl.errors import ConfigError
from hfx_sgl.types import Role


class Device(StrEnum):
    """What a server computes on. The values are those of SGLang's `--device`."""

    CPU = "cpu"
    CUDA = "cuda"
    NPU = "npu"


TRANSFER_BACKENDS: dict[Device, tuple[str, ...]] = {
    Device.CPU: ("mooncake",),
    Device.CUDA: ("mooncake", "mooncake_tcp", "nixl", "mori"),
    Device.NPU: ("ascend", "mooncake"),
}
"""How prefill may hand over to decode; the first one is the default."""

_DEVICE_NODES = {Device.CUDA: r"nvidia(\d+)", Device.NPU: r"davinci(\d+)"}

_CPU_FLAGS = (
    # A tenth of a machine's memory for weights; the KV pool is sized by tokens instead.
    "--mem-fraction-static", "0.1",
    "--max-total-tokens", "16384",
    "--max-running-requests", "16",
    # An idle scheduler otherwise spins on a whole core.
    "--sleep-on-idle",
)  # fmt: skip


def detect_device(dev: Path = Path("/dev")) -> Device:
    """Return the accelerator this machine has, or the CPU."""
    for device in (Device.CUDA, Device.NPU):
        if present_device_ids(device, dev):
            return device
    return Device.CPU


def present_device_ids(device: Device, dev: Path = Path("/dev")) -> tuple[str, ...]:
    """Return the ids of the device nodes that the driver made, in order."""
    pattern = _DEVICE_NODES.get(device)
    if pattern is None or not dev.is_dir():
        return ()
    found = (re.fullmatch(pattern, entry.name) for entry in dev.iterdir())
    return tuple(str(number) for number in sorted(int(match[1]) for match in found if match))


def server_flags(
    device: Device, role: Role, *, transfer_backend: str, ib_device: str | None
) -> tuple[str, ...]:
    """Return the flags that device and role call for, ports and parallelism apart."""
    flags = ["--device", device.value, "--enable-metrics"]
    if device is Device.CPU:
        flags += _CPU_FLAGS
    elif device is Device.NPU:
        flags += ["--attention-backend", "ascend"]
    if role is Role.REGULAR:
        return tuple(flags)
    flags += ["--disaggregation-mode", role.value]
    flags += ["--disaggregation-transfer-backend", transfer_backend]
    if device is Device.CPU:
        # The default pool is registered with CUDA. Given to both roles, for they may be flipped.
        flags += ["--disaggregation-decode-retraction-backup", "cpu_tensor"]
    if ib_device is not None:
        flags += ["--disaggregation-ib-device", ib_device]
    return tuple(flags)


def server_env(
    device: Device, *, host: str, transfer_backend: str, store_port: int
) -> dict[str, str]:
    """Return the environment that every server on this device needs.

    `store_port` is where the Ascend transfer engine keeps its shared directory of peers; the
    prefill servers create it and every server reads it.
    """
    # Without it SGLang announces the first network address it finds to its peers.
    env = {"SGLANG_HOST_IP": host}
    if device is Device.CPU:
        env |= {
            "SGLANG_USE_CPU_ENGINE": "1",
            "OMP_NUM_THREADS": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "MC_FORCE_TCP": "1",
            "MOONCAKE_PROTOCOL": "tcp",
            # Otherwise every /health on an idle server generates a token and takes a second.
            "SGLANG_ENABLE_HEALTH_ENDPOINT_GENERATION": "0",
            # Sending a cached prefix ahead of the forward pass is ordered by CUDA events; without
            # CUDA the first prompt that repeats another's beginning kills the prefill scheduler.
            "SGLANG_DISAGG_PREFILL_EARLY_SEND_CACHED_PREFIX": "0",
        }
    elif device is Device.NPU:
        if transfer_backend == "mooncake":
            env["ENABLE_ASCEND_TRANSFER_WITH_MOONCAKE"] = "true"
        else:
            env["ASCEND_MF_STORE_URL"] = f"tcp://{_bracketed(host)}:{store_port}"
    return env


def device_selection(
    device: Device, transfer_backend: str, device_ids: Sequence[str]
) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return the environment and flags that confine a server to these devices.

    Raises:
        ConfigError: these ids cannot be expressed.
    """
    if device is Device.CUDA:
        return {"CUDA_VISIBLE_DEVICES": ",".join(device_ids)}, ()
    if device is Device.NPU and transfer_backend == "mooncake":
        # Mooncake's Ascend transport names its peer by the physical id, which SGLang derives
        # from its own numbering; renumbering by visibility would give the wrong one.
        numbers = [int(device_id) for device_id in device_ids if device_id.isdecimal()]
        if numbers != list(range(numbers[0], numbers[0] + len(device_ids)) if numbers else ()):
            raise ConfigError(
                "device_ids: the mooncake backend on npu needs consecutive ids for each server, "
                f"got {','.join(device_ids)}"
            )
        return {}, ("--base-gpu-id", device_ids[0])
    if device is Device.NPU:
        return {"ASCEND_RT_VISIBLE_DEVICES": ",".join(device_ids)}, ()
    return {}, ()


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
