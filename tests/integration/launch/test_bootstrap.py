import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
BOOTSTRAP = ROOT / "scripts" / "lib" / "bootstrap.sh"
FAKE_PIP = """\
import pathlib, sys
with pathlib.Path(__file__).with_name("asked").open("a") as file:
    file.write(" ".join(sys.argv[1:]) + "\\n")
"""


def make_venv(folder: Path, *distributions: str) -> Path:
    """Make an environment whose pip only notes what it is asked; return where it does."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    (site,) = folder.glob("lib/python3*/site-packages")
    (site / "pip.py").write_text(FAKE_PIP)
    for name in distributions:
        info = site / f"{name.replace('-', '_')}-1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
    return site / "asked"


def ensure(venv: Path, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
    # The Debian packages are another function's concern.
    libraries = "ensure_mooncake_libraries() { :; }"
    script = f"source {BOOTSTRAP}; {libraries}; ensure_router_venv {' '.join(args)}"
    return subprocess.run(
        ["bash", "-c", f"set -euo pipefail; {script}"],
        env={"PATH": "/usr/bin:/bin", "HFX_VENV": str(venv), "HFX_PYTHON": sys.executable, **env},
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
    )


def test_torch_comes_first_and_from_its_own_index(tmp_path: Path) -> None:
    asked = make_venv(tmp_path / "venv")
    url = "https://example.invalid/cpu"
    done = ensure(tmp_path / "venv", "--with-cpu-extra", "--group dev", HFX_TORCH_INDEX_URL=url)
    assert done.returncode == 0, done.stderr
    commands = [line for line in asked.read_text().splitlines() if line.startswith("install")]
    assert commands[0] == f"install --no-input --index-url {url} torch==2.13.0"
    assert commands[-1] == "install --editable .[cpu] --group dev"
    # A second time there is nothing to do.
    asked.unlink()
    assert ensure(tmp_path / "venv", "--with-cpu-extra", "--group dev").returncode == 0
    assert not asked.exists()


def test_the_router_alone_needs_no_torch(tmp_path: Path) -> None:
    asked = make_venv(tmp_path / "venv")
    assert ensure(tmp_path / "venv").returncode == 0
    assert "torch" not in asked.read_text()
    assert asked.read_text().splitlines()[-1] == "install --editable ."


@pytest.mark.parametrize("name", ["mooncake-transfer-engine", "mooncake-transfer-engine-npu"])
def test_the_wheel_of_another_extra_is_not_overwritten(tmp_path: Path, name: str) -> None:
    asked = make_venv(tmp_path / "venv", name)
    done = ensure(tmp_path / "venv", "--with-cpu-extra")
    assert done.returncode == 1
    assert f"holds {name}," in done.stderr
    assert "exclude each other" in done.stderr
    assert "install" not in asked.read_text()
