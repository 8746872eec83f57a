"""Runs a test, or any function of a module, in a process of its own that has only loopback.

For whatever uses Mooncake: it listens on every interface, reads its settings once per process,
and a mistake may take the process down.

    @in_loopback
    def test_something(tmp_path: Path) -> None: ...

The whole body runs in the other process; its fixtures' values and what it returns are pickled.
Processes that it leaves behind are killed with it.
"""

import functools
import importlib.util
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

import pytest

from hfx_sgl.launch import netns

_TESTS = Path(__file__).resolve().parents[1]
_IS_INSIDE = "HFX_TEST_IS_IN_LOOPBACK"
_LIMIT_S = 50.0

P = ParamSpec("P")
T = TypeVar("T")


def in_loopback(function: Callable[P, T]) -> Callable[P, T]:
    """Have each call of a module-level function happen in a new process with only loopback."""

    @functools.wraps(function)
    def elsewhere(*args: P.args, **kwargs: P.kwargs) -> T:
        if os.environ.get(_IS_INSIDE):
            return function(*args, **kwargs)
        return call_in_loopback(function, *args, **kwargs)

    return elsewhere


def call_in_loopback(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a module-level function in a new process with only loopback; return what it returns.

    Skips the test where the system allows no network namespaces. What the function raises fails
    the test, with the other process's output.
    """
    if not netns.can_isolate():
        pytest.skip("no permission to make a network namespace")
    path = function.__code__.co_filename
    request = pickle.dumps((path, function.__name__, args, kwargs))
    with tempfile.TemporaryDirectory() as folder:
        answer, output = Path(folder) / "answer", Path(folder) / "output"
        status = _run(str(answer), request, output)
        if status != 0 or not answer.exists():
            text = output.read_text(errors="replace")
            pytest.fail(f"{function.__name__} ended with {status}:\n{text}", pytrace=False)
        value: T = pickle.loads(answer.read_bytes())
        return value


def _run(answer: str, request: bytes, output: Path) -> int | str:
    """Return the exit status, or a word on why there is none."""
    folders = [str(_TESTS), str(_TESTS.parent / "scripts"), os.environ.get("PYTHONPATH", "")]
    search = os.pathsep.join(filter(None, folders))
    # Not a pipe: what is left behind may hold it open.
    with output.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "support.loopback", answer],
            env={**os.environ, "PYTHONPATH": search, _IS_INSIDE: "1"},
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        assert process.stdin is not None
        process.stdin.write(request)
        process.stdin.close()
        return process.wait(_LIMIT_S)
    except subprocess.TimeoutExpired:
        return f"no status within {_LIMIT_S:g} s"
    finally:
        _end_session(process)
        process.wait()


def _end_session(process: subprocess.Popen[bytes]) -> None:
    """Kill what is in the process's group, which was made for it."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _main(answer: str) -> int:
    netns.isolate()
    path, name, args, kwargs = pickle.load(sys.stdin.buffer)
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    try:
        value = getattr(module, name)(*args, **kwargs)
    except Exception:
        traceback.print_exc(file=sys.stdout)
        return 1
    Path(answer).write_bytes(pickle.dumps(value))
    return 0


if __name__ == "__main__":
    status = _main(sys.argv[1])
    sys.stdout.flush()
    sys.exit(status)
