"""What is usable is found by using it."""

import subprocess
import sys
from pathlib import Path

import pytest
from hfx_transfer.engine import capability
from hfx_transfer.engine.capability import available_backends, open_engine
from hfx_transfer.engine.protocol import Backend
from hfx_transfer.engine.settings import EngineSettings
from hfx_transfer.memory import shared

from hfx_sgl.errors import TransferError, TransferFault


def test_what_needs_no_library_works_everywhere() -> None:
    problems = available_backends()
    assert set(problems) == set(Backend)
    assert {problems[backend] for backend in (Backend.SHM, Backend.SOCKET, Backend.FILE)} == {None}


@pytest.mark.parametrize("backend", [Backend.SHM, Backend.SOCKET, Backend.FILE])
def test_an_engine_says_which_one_it_is_and_what_moves_the_bytes(backend: Backend) -> None:
    engine = open_engine(backend, EngineSettings())
    assert engine.backend is backend
    assert engine.transport == ("tcp" if backend is Backend.SOCKET else backend.value)
    engine.close()


def test_asking_imports_neither_torch_nor_mooncake_here() -> None:
    code = (
        "import sys; from hfx_transfer.engine.capability import available_backends;"
        "available_backends(); print([m for m in ('torch', 'mooncake') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=60
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("raise ImportError('libibverbs.so.1: cannot open')", "libibverbs"),
        ("import os; os.abort()", "ended the process (-6)"),
    ],
    ids=["missing", "crashes"],
)
def test_a_library_that_cannot_be_used_is_told_in_words(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: str, told: str
) -> None:
    broken = tmp_path / "mooncake"
    broken.mkdir()
    (broken / "__init__.py").touch()
    (broken / "engine.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "mooncake.engine", raising=False)
    problem = available_backends()[Backend.MOONCAKE]
    assert problem is not None
    assert told in problem


def test_a_host_without_shared_memory_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for module in (shared, "hfx_transfer.engine.host"):
        name = module if isinstance(module, str) else module.__name__
        monkeypatch.setattr(f"{name}.SHARED_MEMORY_FOLDER", tmp_path / "none")
    problem = available_backends()[Backend.SHM]
    assert problem is not None
    assert "no shared memory on this host" in problem
    with pytest.raises(TransferError) as caught:
        open_engine(Backend.SHM, EngineSettings())
    assert caught.value.fault is TransferFault.UNAVAILABLE


def test_an_import_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capability, "_PROBE", "import threading; threading.Event().wait()")
    monkeypatch.setattr(capability, "_PROBE_TIMEOUT_S", 0.5)
    monkeypatch.delitem(sys.modules, "mooncake.engine", raising=False)
    problem = available_backends()[Backend.MOONCAKE]
    assert problem == "importing Mooncake took more than 0.5 s"
