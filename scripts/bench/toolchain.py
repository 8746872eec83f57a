"""Makes what the benchmark runs: the two C tools, and sglang-router in a venv of its own.

Both are kept in a cache folder and reused as long as they are what this version asks for.
"""

import hashlib
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

SGLANG_ROUTER_VERSION = "0.3.2"
SOURCE_DIR = Path(__file__).parent
C_FLAGS = ("-std=gnu11", "-O2", "-Wall", "-Wextra")

Say = Callable[[str], None]


class BenchError(Exception):
    """Something that makes the figures meaningless, said in one sentence (log lines may follow)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """Paths of what was made."""

    mock_worker: Path
    load_client: Path
    sglang_python: Path


def make_tools(cache_dir: Path, say: Say) -> Tools:
    """Compile and install what the cache does not hold yet."""
    cache_dir.mkdir(parents=True, exist_ok=True)
    return Tools(
        mock_worker=compile_tool("mock_worker", cache_dir, say),
        load_client=compile_tool("load_client", cache_dir, say),
        sglang_python=install_sglang_router(cache_dir, say),
    )


def compile_tool(name: str, cache_dir: Path, say: Say) -> Path:
    """Compile `name`.c unless the cache holds the program of exactly these sources."""
    sources = [SOURCE_DIR / f"{name}.c", SOURCE_DIR / "wire.h"]
    digest = hashlib.sha256(b"\0".join(path.read_bytes() for path in sources))
    target = cache_dir / f"{name}-{digest.hexdigest()[:16]}"
    if target.exists():
        return target
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise BenchError(
            "no C compiler (cc, gcc or clang): on Debian, apt-get install gcc libc6-dev"
        )
    say(f"compiling {name}.c")
    partial = target.with_suffix(".partial")
    _run([compiler, *C_FLAGS, "-o", str(partial), str(sources[0])], f"compiling {name}.c failed")
    partial.rename(target)
    return target


def install_sglang_router(cache_dir: Path, say: Say) -> Path:
    """Install the pinned sglang-router into a venv in the cache; return the venv's python."""
    tag = f"sglang-router-{SGLANG_ROUTER_VERSION}-{sysconfig.get_python_version()}"
    venv = cache_dir / tag
    python = venv / "bin" / "python"
    marker = venv / "installed"
    if marker.exists() and python.exists():
        return python
    say(f"installing sglang-router {SGLANG_ROUTER_VERSION} into {venv}")
    shutil.rmtree(venv, ignore_errors=True)
    _run([sys.executable, "-m", "venv", str(venv)], "creating the venv failed")
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    _run([*pip, f"sglang-router=={SGLANG_ROUTER_VERSION}"], "installing sglang-router failed")
    _run([str(python), "-c", "import sglang_router.launch_router"], "sglang-router does not start")
    marker.touch()
    return python


def _run(command: list[str], what_failed: str) -> None:
    outcome = subprocess.run(command, capture_output=True, text=True, check=False)
    if outcome.returncode:
        tail = "\n".join((outcome.stdout + outcome.stderr).splitlines()[-15:])
        raise BenchError(f"{what_failed}:\n{tail}")
