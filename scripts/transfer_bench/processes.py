"""The benchmark's own processes: one line of JSON asks, one answers."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from queue import Empty, Queue
from typing import Any

import msgspec
from transfer_bench.accounting import cpu_s_of, family_of

ROOT = Path(__file__).parents[2]
STOP_TIMEOUT_S = 10.0


class BenchError(Exception):
    """The benchmark cannot go on."""


class Station:
    """A child that holds weights or takes them; see `transfer_bench.station` for what it can do."""

    def __init__(self, name: str, *, log_dir: Path, env: Mapping[str, str] | None = None) -> None:
        self.name = name
        self._log_path = log_dir / f"{name}.log"
        paths = [ROOT / "scripts", ROOT, ROOT / "transfer"]
        full = {**os.environ, **(env or {}), "PYTHONPATH": os.pathsep.join(map(str, paths))}
        with self._log_path.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "transfer_bench.station"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=full,
            )
        self._answers: Queue[bytes] = Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._process.pid

    def ask(self, do: str, *, timeout_s: float, **fields: Any) -> Any:
        """Have the child do something and return what it answers."""
        self.begin(do, **fields)
        return self.end(timeout_s=timeout_s)

    def begin(self, do: str, **fields: Any) -> None:
        """Have the child begin with something; `end` is called once for it."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(msgspec.json.encode({"do": do, **fields}) + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError as exc:
            raise BenchError(f"{self.name} has ended: {self._log_tail()}") from exc

    def end(self, *, timeout_s: float) -> Any:
        """Return the answer to what was begun."""
        try:
            line = self._answers.get(timeout=timeout_s)
        except Empty:
            raise BenchError(f"{self.name}: no answer within {timeout_s:g} s") from None
        if not line:
            raise BenchError(f"{self.name} has ended: {self._log_tail()}")
        answer = msgspec.json.decode(line)
        if "error" in answer:
            raise BenchError(f"{self.name}: {answer['error']}")
        return answer["result"]

    def cpu_s(self) -> float:
        """Return the processor time that the child and its children have used."""
        return cpu_s_of(self.pid)

    def stop(self) -> None:
        """End the child, by force when it does not go, and the children that it leaves."""
        family = family_of(self.pid)
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for pid in family[1:]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._answers.put(line)
        self._answers.put(b"")

    def _log_tail(self) -> str:
        return "\n".join(self._log_path.read_text(errors="replace").splitlines()[-20:])
