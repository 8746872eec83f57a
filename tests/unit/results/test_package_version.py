"""The version that results carry."""

import re
import subprocess
from pathlib import Path

import pytest

from hfx_sgl import __version__
from hfx_sgl.results import version
from hfx_sgl.results.version import package_version


def test_a_checkout_names_its_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def git(*arguments: str) -> None:
        identity = ("-c", "user.name=a", "-c", "user.email=a@example.org")
        subprocess.run(["git", "-C", str(tmp_path), *identity, *arguments], check=True)

    git("init", "-q")
    (tmp_path / "file").write_text("one")
    git("add", "file")
    git("commit", "-qm", "first")
    monkeypatch.setattr(version, "_CHECKOUT", tmp_path)
    clean = package_version()
    assert re.fullmatch(re.escape(__version__) + r"\+g[0-9a-f]{7,40}", clean)
    (tmp_path / "file").write_text("two")
    assert package_version() == clean + ".dirty"


def test_an_installed_package_has_no_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(version, "_CHECKOUT", tmp_path)
    assert package_version() == __version__


def test_a_checkout_without_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".git").mkdir()
    monkeypatch.setattr(version, "_CHECKOUT", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert package_version() == __version__
