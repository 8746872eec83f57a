import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[3] / "scripts" / "install_sglang_cpu"


def run(*args: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(SCRIPT), *args],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


def test_check_says_no_to_what_was_not_built(tmp_path: Path) -> None:
    assert run("--check", "--venv", str(tmp_path / "none")).returncode == 1
    # An interrupted build has an interpreter and no stamp, an old one another stamp.
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.symlink_to("/usr/bin/env")
    assert run("--check", "--venv", str(tmp_path)).returncode == 1
    (tmp_path / ".hfx-sglang-ready").write_text("another\n")
    assert run("--check", HFX_SGLANG_VENV=str(tmp_path)).returncode == 1


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_names_every_flag(flag: str) -> None:
    done = run(flag)
    assert done.returncode == 0
    assert "--venv DIR" in done.stdout
    assert "HFX_TORCH_INDEX_URL" in done.stdout


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        (["--venv"], "--venv needs a folder"),
        (["--venv="], "--venv needs a folder"),
        (["--fast"], "unknown argument: --fast"),
    ],
)
def test_bad_arguments_are_named(args: list[str], complaint: str) -> None:
    done = run(*args)
    assert done.returncode != 0
    assert complaint in done.stderr


def test_a_folder_that_is_something_else_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("irreplaceable")
    done = run("--venv", str(tmp_path))
    assert done.returncode != 0
    assert "is not a virtual environment" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_an_unsuitable_interpreter_is_refused(tmp_path: Path) -> None:
    done = run("--venv", str(tmp_path / "venv"), HFX_PYTHON="/bin/false")
    assert done.returncode != 0
    assert "no Python 3.11, 3.12 or 3.13 found (tried: /bin/false)" in done.stderr
