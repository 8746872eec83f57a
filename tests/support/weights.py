"""Files of weights, processes that serve them, and a watch that acts in the middle of a pull."""

import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Self

from hfx_transfer.engine.protocol import Backend
from hfx_transfer.observer import Direction, ProbeOutcome, TransferKind
from hfx_transfer.weights import (
    LeaseConfig,
    LoadedWeights,
    LoadSettings,
    Seed,
    SeedSettings,
    serve_weights,
)
from hfx_transfer.weights.layout import TensorSpec
from hfx_transfer.weights.safetensors_file import find_tensors, write_file

from hfx_sgl.errors import TransferFault

MIB = 1 << 20

START_LIMIT_S = 30.0

_TESTS = Path(__file__).resolve().parents[1]


def write_weights(path: Path, *, num_tensors: int = 12, mib_each: float = 2, seed: int = 0) -> Path:
    """Write a file of random bytes as U8 tensors, with one that has no bytes; return its path."""
    rng = random.Random(seed)
    size = int(mib_each * MIB)
    specs = [TensorSpec(name=f"layer.{i}", dtype="U8", shape=(size,)) for i in range(num_tensors)]
    specs.append(TensorSpec(name="nothing", dtype="F32", shape=(0, 4)))
    write_file(path, specs, lambda fd, spec: _write(fd, rng.randbytes(spec.size_bytes)))
    return path


def _write(fd: int, data: bytes) -> None:
    assert os.write(fd, data) == len(data)


def file_contents(path: Path) -> dict[str, bytes]:
    """Return the bytes of each tensor of a file or folder."""
    found = {}
    for name, tensor in find_tensors(path).items():
        with tensor.path.open("rb") as file:
            file.seek(tensor.offset_bytes)
            found[name] = file.read(tensor.spec.size_bytes)
    return found


def loaded_contents(loaded: LoadedWeights) -> dict[str, bytes]:
    """Return the bytes of each tensor that was loaded."""
    slabs = loaded.holding.slabs
    return {
        place.name: bytes(slabs[place.slab].view()[place.offset_bytes : place.end_bytes])
        if place.size_bytes
        else b""
        for place in loaded.layout.tensors
    }


class SeedProcess:
    """A process that serves weights; ready when this returns."""

    def __init__(
        self, path: Path, *backends: Backend, generation: int = 0, arguments: Sequence[str] = ()
    ) -> None:
        command = ["serve", str(path), "--chunk-mib", "1", "--generation", str(generation)]
        if backends:
            command += ["--backends", ",".join(backends)]
        self._start([*command, *arguments])
        found = re.search(r"model hash (\w+)", self._line())
        assert found is not None
        self.model_hash = found[1]

    @classmethod
    def pulling_from(cls, url: str) -> Self:
        """Return one that has got its weights from another."""
        process = cls.__new__(cls)
        process._start(["pull", url, "--serve-port", "0"])
        return process

    def _start(self, arguments: Sequence[str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "hfx_transfer.weights", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.pid = self._process.pid
        self.url = self._line()

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline().strip()
        if not line:
            assert self._process.stderr is not None
            raise AssertionError(f"the process has ended: {self._process.stderr.read()}")
        return line

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        """End it as a crash would, and wait for that."""
        self._process.kill()
        self._process.communicate()

    def terminate(self) -> int:
        """End it as an operator would; return its status."""
        self._process.terminate()
        self._process.communicate(timeout=START_LIMIT_S)
        return self._process.returncode


class Watch:
    """Counts, and calls `act` once when chunk number `at` is verified, in the pulling thread."""

    def __init__(self, at: int = 0, act: Callable[[], object] = lambda: None) -> None:
        self._at = at
        self._act = act
        self.num_moved = 0
        self.failed: list[TransferFault] = []
        self.ended: list[TransferFault | None] = []
        self.most_leases = 0
        self.num_sources = 0

    def moved(self, backend: Backend, direction: Direction, num_bytes: int) -> None:
        self.num_moved += 1
        if self.num_moved == self._at:
            self._act()

    def chunk_failed(self, backend: Backend, fault: TransferFault) -> None:
        self.failed.append(fault)

    def transfer_ended(
        self, kind: TransferKind, fault: TransferFault | None, duration_s: float
    ) -> None:
        self.ended.append(fault)

    def sources(self, num_sources: int) -> None:
        self.num_sources = max(self.num_sources, num_sources)

    def leases(self, num_leases: int) -> None:
        self.most_leases = max(self.most_leases, num_leases)

    def probed(self, outcome: ProbeOutcome) -> None:
        raise AssertionError("weights need no probe")

    def handed_over(self, predicted_s: float, observed_s: float) -> None:
        raise AssertionError("weights are no KV")


NOISE_S = 6.0
"""How much longer than they should things may take on a machine that does other things too."""

QUICK = LoadSettings(
    backends=(Backend.SOCKET,),
    progress_timeout_s=1.0,
    first_contact_timeout_s=1.0,
    control_timeout_s=1.0,
    max_active_sources=1,
)


def by(backend: Backend, **changes: object) -> LoadSettings:
    """Return QUICK with one backend and other changes."""
    return replace(QUICK, backends=(backend,), **changes)  # type: ignore[arg-type]


@contextmanager
def within(limit_s: float) -> Iterator[None]:
    """Fail when the block takes longer, by more than what a noisy machine explains."""
    began_at_s = time.monotonic()
    yield
    took_s = time.monotonic() - began_at_s
    assert took_s < limit_s + NOISE_S, f"took {took_s:.1f} s"


@contextmanager
def served(path: Path, backend: Backend, **options: object) -> Iterator[Seed]:
    """Serve a file from this process; leases run for a second."""
    settings = SeedSettings(backends=(backend,), chunk_bytes=MIB, lease=LeaseConfig(duration_s=1.0))
    with serve_weights(path, settings=settings, **options) as seed:  # type: ignore[arg-type]
        yield seed


class HangingReceiver:
    """A process that has pulled a few chunks and gets no further; with a port it serves them."""

    def __init__(
        self, url: str, port: int | None = None, *, backend: Backend = Backend.SOCKET
    ) -> None:
        self._process = subprocess.Popen(
            [
                sys.executable, "-m", "support.weights_receiver", url, backend,
                *([] if port is None else [str(port)]),
            ],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(_TESTS)},
        )  # fmt: skip
        self.url = f"http://127.0.0.1:{port}"
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"pulling\n"

    def signal(self, number: signal.Signals) -> None:
        os.kill(self._process.pid, number)

    def kill(self) -> None:
        """End it as a crash would, and wait for that."""
        self._process.kill()
        self._process.communicate()
