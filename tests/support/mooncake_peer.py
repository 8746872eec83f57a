"""A process that offers memory over Mooncake, to be spoken to, stopped and killed by tests."""

import json
import os
import signal
import subprocess
import sys
from typing import Any

import msgspec
import psutil
import xxhash
from hfx_transfer.engine.mooncake.backend import MooncakeEngine
from hfx_transfer.engine.protocol import RegionHandle
from hfx_transfer.engine.settings import EngineSettings
from hfx_transfer.memory.host import HostSlab

PROGRESS_TIMEOUT_S = 2.0
"""Mooncake takes whole seconds; 1 is too little on a busy machine."""


def pattern(size_bytes: int, seed: int) -> bytes:
    """Return bytes that differ from seed to seed, and at any two offsets near each other."""
    block = bytes((seed * 37 + i * 11 + i // 251) % 256 for i in range(65521))
    return (block * (size_bytes // len(block) + 1))[:size_bytes]


class MooncakePeerProcess:
    """The process, seen from a test. `pattern(size, i)` fills its slab number `i`."""

    def __init__(self, *sizes_bytes: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "support.mooncake_peer", *map(str, sizes_bytes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.pid = self._process.pid
        answer = self._read()
        self.handles = [msgspec.convert(each, RegionHandle) for each in answer["handles"]]
        self.ports: list[int] = answer["ports"]

    def digest(self, slab: int = 0) -> str:
        """Return a digest of what the slab holds."""
        digest: str = self.ask("digest", slab)["digest"]
        return digest

    def ask(self, command: str, *args: int) -> dict[str, Any]:
        """Have it do something and return the answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([command, *args]) + "\n")
        self._process.stdin.flush()
        return self._read()

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the peer process has ended"
        answer: dict[str, Any] = json.loads(line)
        return answer


def _main(sizes_bytes: list[int]) -> None:
    slabs = [HostSlab(size_bytes, prefault=True) for size_bytes in sizes_bytes]
    for seed, slab in enumerate(slabs):
        slab.view()[:] = pattern(slab.size_bytes, seed)
    engine = MooncakeEngine(EngineSettings(progress_timeout_s=PROGRESS_TIMEOUT_S))
    handles = [msgspec.to_builtins(handle) for handle in engine.register(slabs, writable=True)]
    print(json.dumps({"handles": handles, "ports": _listening_ports()}), flush=True)
    for line in sys.stdin:
        match json.loads(line):
            case ["digest", slab]:
                answer: dict[str, object] = {"digest": xxhash.xxh3_64_hexdigest(slabs[slab].view())}
            case ["unregister", slab]:
                engine.unregister([slabs[slab]])
                answer = {}
            case other:
                raise ValueError(f"unknown command: {other}")
        print(json.dumps(answer), flush=True)


def _listening_ports() -> list[int]:
    connections = psutil.Process().net_connections("tcp")
    return sorted({each.laddr.port for each in connections if each.status == "LISTEN"})


if __name__ == "__main__":
    _main([int(arg) for arg in sys.argv[1:]])
