import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hfx_transfer.engine.mooncake import native_library
from hfx_transfer.engine.settings import EngineSettings

from hfx_sgl.errors import TransferError, TransferFault


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder in which a test installs its own idea of Mooncake; nothing of it stays."""
    before = dict(os.environ)
    for name in [name for name in sys.modules if name.partition(".")[0] == "mooncake"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *_without_mooncake()])
    importlib.invalidate_caches()
    yield tmp_path
    for name in [name for name in sys.modules if name.partition(".")[0] == "mooncake"]:
        del sys.modules[name]
    os.environ.clear()
    os.environ.update(before)


def _without_mooncake() -> list[str]:
    return [path for path in sys.path if not (Path(path) / "mooncake").exists()]


def install(site: Path, distribution: str, engine: str) -> None:
    package = site / "mooncake"
    package.mkdir(exist_ok=True)
    (package / "__init__.py").touch()
    (package / "engine.py").write_text(engine)
    info = site / f"{distribution.replace('-', '_')}-0.3.13.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 0.3\n")


@pytest.mark.parametrize(
    ("distribution", "extra"),
    [
        ("mooncake-transfer-engine-non-cuda", "cpu"),
        ("mooncake-transfer-engine", "cuda"),
        ("mooncake-transfer-engine-npu", "npu"),
    ],
)
def test_the_environment_is_set_before_the_import(
    site: Path, monkeypatch: pytest.MonkeyPatch, distribution: str, extra: str
) -> None:
    monkeypatch.delenv("MC_TCP_PROGRESS_TIMEOUT_SEC", raising=False)
    install(
        site,
        distribution,
        "import os\nSEEN = os.environ['MC_TCP_PROGRESS_TIMEOUT_SEC']\nSUPPORT_CUDA = True\n",
    )
    loaded = native_library.load(EngineSettings(progress_timeout_s=7))
    assert loaded.module.SEEN == "7"
    assert loaded.extra == extra
    assert loaded.supports("CUDA")
    assert not loaded.supports("MNNVL")


@pytest.mark.parametrize(
    ("missing", "remedy"),
    [
        ("libibverbs.so.1", "Debian package libibverbs1"),
        ("libcudart.so.12", "CUDA runtime"),
        ("libascendcl.so", "CANN toolkit"),
        ("libsomething.so.3", "does not suit this machine"),
    ],
)
def test_a_missing_library_is_named_with_its_package(site: Path, missing: str, remedy: str) -> None:
    text = f"{missing}: cannot open shared object file: No such file or directory"
    install(site, "mooncake-transfer-engine-non-cuda", f"raise ImportError({text!r})\n")
    with pytest.raises(TransferError, match=remedy) as caught:
        native_library.load(EngineSettings())
    assert missing in str(caught.value)
    assert caught.value.fault is TransferFault.UNAVAILABLE


def test_an_environment_without_mooncake(site: Path) -> None:
    with pytest.raises(TransferError, match="one of the extras cpu, cuda, npu") as caught:
        native_library.load(EngineSettings())
    assert caught.value.fault is TransferFault.UNAVAILABLE


def test_two_wheels_over_each_other(site: Path) -> None:
    install(site, "mooncake-transfer-engine-non-cuda", "")
    install(site, "mooncake-transfer-engine-npu", "")
    with pytest.raises(TransferError, match="2 Mooncake wheels"):
        native_library.load(EngineSettings())
    assert "mooncake.engine" not in sys.modules
