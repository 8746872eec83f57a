"""Starts the benchmark's processes on their core, waits for them, and stops them by pid."""

import http.client
import os
import resource
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from bench.toolchain import BenchError

HOST = "127.0.0.1"
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 10.0
POLL_S = 0.05
LOG_TAIL_LINES = 20
MAX_DESCRIPTORS = 65_536

CHECK_BODIES = (
    '{"model":"mock-model","messages":[{"role":"user","content":"hi"}],"max_tokens":2,"stream":%s}'
)


class PinnedProcess:
    """One child process, its threads confined to one core, its output in a file."""

    def __init__(
        self, command: list[str], *, core: int, log_path: Path, env: Mapping[str, str] | None = None
    ) -> None:
        self.command = command
        self.log_path = log_path
        own_cores = os.sched_getaffinity(0)
        # A child inherits the affinity, threads that it starts at once included.
        os.sched_setaffinity(0, {core})
        try:
            with log_path.open("wb") as log:
                self._process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env
                )
        finally:
            os.sched_setaffinity(0, own_cores)

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._process.pid

    def wait_s(self, duration_s: float) -> None:
        """Let time pass; raise BenchError when the child ends meanwhile."""
        try:
            code = self._process.wait(duration_s)
        except subprocess.TimeoutExpired:
            return
        raise BenchError(f"{self.command[0]} ended with code {code}:\n{self.log_tail()}")

    def stop(self) -> str:
        """End the child, by force when it does not go; return what it logged."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        return self.log_path.read_text(errors="replace")

    def log_tail(self) -> str:
        """Return the last lines of the child's output."""
        return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:])


def wait_until_serving(process: PinnedProcess, port: int, *, ready_path: str) -> None:
    """Wait for 200 from `ready_path`, then check a whole answer of either kind."""
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while (status := _status(port, "GET", ready_path, None)) != 200:
        if time.monotonic() > deadline_s:
            raise BenchError(
                f"port {port}: {ready_path} gave {status} for {START_TIMEOUT_S:g} s:\n"
                + process.log_tail()
            )
        process.wait_s(POLL_S)
    for is_stream in ("false", "true"):
        status = _status(port, "POST", "/v1/chat/completions", CHECK_BODIES % is_stream)
        if status != 200:
            raise BenchError(
                f"port {port}: a chat completion (stream {is_stream}) gave {status}:\n"
                + process.log_tail()
            )


def raise_descriptor_limit() -> None:
    """Allow for thousands of connections, in children too."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MAX_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _status(port: int, method: str, path: str, body: str | None) -> int | None:
    """Return the status of a whole answer; None when there was none."""
    connection = http.client.HTTPConnection(HOST, port, timeout=START_TIMEOUT_S)
    headers = {"content-type": "application/json"} if body else {}
    try:
        connection.request(method, path, body=body, headers=headers)
        response = connection.getresponse()
        response.read()
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
    return response.status
