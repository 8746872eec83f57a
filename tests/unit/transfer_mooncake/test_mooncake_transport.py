from pathlib import Path
from types import SimpleNamespace

import pytest
from hfx_transfer.engine.mooncake.native_library import Library, has_adapters
from hfx_transfer.engine.mooncake.transport import (
    adapters_in,
    device_kinds,
    location_of,
    transport_of,
)

TWO_ADAPTERS = '{"cpu:0": [["mlx5_0"], ["mlx5_1"]], "cuda:0": [["mlx5_1"], ["mlx5_0"]]}'


def build(extra: str | None, *features: str) -> Library:
    flags = {f"SUPPORT_{feature}": True for feature in features}
    return Library(module=SimpleNamespace(**flags), extra=extra)


@pytest.mark.parametrize(
    ("library", "environment", "topology", "transport"),
    [
        (build("cpu"), {"MC_FORCE_TCP": "1"}, "", "tcp"),
        (build("cpu"), {}, "", "tcp"),
        (build("cpu"), {}, "{}\n", "tcp"),
        (build("cpu"), {}, '{"cpu:0": [[], []]}', "tcp"),
        (build("cpu"), {}, TWO_ADAPTERS, "rdma"),
        (build("cuda", "CUDA"), {}, TWO_ADAPTERS, "rdma"),
        # Its value does not matter, only that it is there.
        (build("cuda", "CUDA"), {"MC_FORCE_TCP": "0"}, TWO_ADAPTERS, "tcp"),
        (build("cuda", "CUDA", "INTRA_NVLINK"), {}, TWO_ADAPTERS, "rdma"),
        (build("cuda", "CUDA", "INTRA_NVLINK"), {}, "", "nvlink"),
        (build("cuda", "INTRA_NVLINK"), {"MC_INTRANODE_NVLINK": "1"}, TWO_ADAPTERS, "nvlink_intra"),
        (build("cuda", "MNNVL"), {"MC_FORCE_MNNVL": "1"}, TWO_ADAPTERS, "nvlink"),
        (build("cpu"), {"MC_INTRANODE_NVLINK": "1"}, "", "tcp"),
        (build("npu"), {}, "", "ascend"),
        (build("npu"), {"MC_FORCE_TCP": "1"}, "", "tcp"),
        (build(None), {}, TWO_ADAPTERS, "rdma"),
    ],
)
def test_transport(
    library: Library, environment: dict[str, str], topology: str, transport: str
) -> None:
    assert transport_of(library, environment, topology) == transport


def test_adapters() -> None:
    assert adapters_in(TWO_ADAPTERS) == {"mlx5_0", "mlx5_1"}
    assert adapters_in("") == set()


def test_whose_memory_a_build_moves() -> None:
    assert device_kinds(build("cpu")) == {"cpu"}
    assert device_kinds(build("cuda")) == {"cpu", "cuda"}
    assert device_kinds(build(None, "CUDA")) == {"cpu", "cuda"}
    assert device_kinds(build("npu")) == {"cpu", "npu"}


def test_locations() -> None:
    assert location_of("npu:3") == "npu:3"
    assert location_of("cuda:3") == "*"
    assert location_of("cpu") == "*"


def test_adapters_of_the_host(tmp_path: Path) -> None:
    assert not has_adapters(tmp_path / "none")
    assert not has_adapters(tmp_path)
    (tmp_path / "mlx5_0").mkdir()
    assert has_adapters(tmp_path)
