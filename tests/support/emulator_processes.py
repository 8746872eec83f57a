"""`hfx-emulator` and `hfx-router` as processes, for tests that stop and kill them."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import psutil
from support.emulators import free_base

Reply = tuple[int, Any]
"""Status, and the JSON of the body."""

_TIMEOUT_S = 40.0


class Spawned:
    """One process, in the network namespace of whoever starts it."""

    def __init__(self, *argv: str, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.port = port
        self._process = subprocess.Popen(
            [sys.executable, *argv],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            # The router refuses HFX_ variables that it does not know; tests have some.
            env={name: value for name, value in os.environ.items() if not name.startswith("HFX_")},
            text=True,
        )
        self.pid = self._process.pid

    def wait_for_line(self, start: str) -> None:
        assert self._process.stdout is not None
        seen = []
        for line in self._process.stdout:
            if line.startswith(start):
                return
            seen.append(line)
        raise AssertionError("it has ended: " + "".join(seen))

    def rss_bytes(self) -> int:
        size: int = psutil.Process(self.pid).memory_info().rss
        return size

    def stop(self) -> None:
        """Let it run no further; returns when it has come to a halt."""
        os.kill(self.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WNOWAIT)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


class Processes:
    """What a test has started, and requests to it in the background."""

    def __init__(self) -> None:
        self._spawned: list[Spawned] = []
        self._pool = ThreadPoolExecutor(32)
        self._base_port = free_base()
        self._rooms = iter(range(1, 1000))

    def emulator(self, *flags: str) -> Spawned:
        """Start one emulated worker and wait until it is ready."""
        port = self._next_port()
        emulator = Spawned("-m", "hfx_sgl.emulator", "--base-port", str(port), *flags, port=port)
        self._spawned.append(emulator)
        emulator.wait_for_line("Ctrl-C")
        return emulator

    def router(self, prefill: Spawned, decode: Spawned) -> Spawned:
        """Start a router in front of a pair and wait until it answers."""
        port = self._next_port()
        router = Spawned(
            *("-m", "hfx_router", "--pd-disaggregation", "--disable-prometheus"),
            *("--prefill", prefill.url, str(prefill.port + 1), "--decode", decode.url),
            *("--host", "127.0.0.1", "--port", str(port)),
            port=port,
        )
        self._spawned.append(router)
        end_s = time.monotonic() + _TIMEOUT_S
        while (answer := self.post(router, "/readiness", None).result())[0] != 200:
            assert time.monotonic() < end_s, f"the router has not become ready: {answer}"
            time.sleep(0.05)
        return router

    def legs(
        self, prefill: Spawned, decode: Spawned, body: Mapping[str, Any]
    ) -> list[Future[Reply]]:
        """Send a request to both sides, as a router does."""
        room = {
            "bootstrap_host": "127.0.0.1",
            "bootstrap_port": prefill.port + 1,
            "bootstrap_room": next(self._rooms),
        }
        return [self.post(each, "/generate", {**body, **room}) for each in (prefill, decode)]

    def post(self, target: Spawned, path: str, body: Mapping[str, Any] | None) -> Future[Reply]:
        """Send a request; without a body, a GET. Status 0: no whole answer came."""
        data = None if body is None else json.dumps(body).encode()
        return self._pool.submit(_ask, target.url + path, data)

    def _next_port(self) -> int:
        port, self._base_port = self._base_port, self._base_port + 10
        return port

    def close(self) -> None:
        for spawned in self._spawned:
            spawned.kill()
        self._pool.shutdown()


@contextmanager
def processes() -> Iterator[Processes]:
    running = Processes()
    try:
        yield running
    finally:
        running.close()


def _ask(url: str, data: bytes | None) -> Reply:
    headers = {"content-type": "application/json"}
    request = urllib.request.Request(url, data, headers)
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as response:
            return response.status, _json(response.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, _json(error.read())
    except OSError as error:
        return 0, str(error)


def _json(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        return data.decode()
