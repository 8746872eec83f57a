"""The launcher's side of `zygote.py`: a spawner whose servers are forks of one warm process."""

import json
import os
import select
import socket
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hfx_sgl.clock import Clock
from hfx_sgl.errors import LaunchError
from hfx_sgl.launch.plan import InstancePlan
from hfx_sgl.launch.spawner import Ended

_ZYGOTE = Path(__file__).with_name("zygote.py")
_CLOSE_TIMEOUT_S = 30.0
"""Longer than the zygote's own grace periods for servers that do not want to go."""


class ForkServer:
    """A `Spawner`. Starting one is expensive, each server after that is cheap.

    Args:
        python: the SGLang environment's interpreter.
        env: what every server's environment has in common; SGLang reads some of it on import.
        log_path: where the zygote's own output goes.
    """

    def __init__(self, *, python: str, env: Mapping[str, str], log_path: str) -> None:
        self.log_path = log_path
        self._control, theirs = socket.socketpair()
        self._received = b""
        self._ended: list[Ended] = []
        self._spawned: dict[str, int] = {}
        self._is_ready = False
        with theirs, Path(log_path).open("wb") as log:
            self._process = subprocess.Popen(
                [python, str(_ZYGOTE), str(theirs.fileno())],
                env={**os.environ, **env},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )

    def wait_ready(self, *, deadline_s: float, clock: Clock, tick: Callable[[], None]) -> None:
        """Wait for the imports, calling `tick` a few times a second.

        Raises:
            LaunchError: they failed, or `deadline_s` came first.
        """
        while not self._is_ready:
            self._receive(timeout_s=0.2)
            if clock.now_s() > deadline_s:
                raise LaunchError("importing SGLang took longer than the readiness timeout")
            tick()

    def spawn(self, plan: InstancePlan) -> int:
        """Fork a server and return its id, which is also that of its group."""
        # The child overwrites its environment, so a path that shows up in it has to be absolute.
        self._send(
            op="spawn",
            name=plan.name,
            # Everything after `python -m sglang.launch_server`.
            args=plan.argv[3:],
            env=dict(plan.env),
            log_path=str(Path(plan.log_path).absolute()),
        )
        while plan.name not in self._spawned:
            self._receive(timeout_s=None)
        return self._spawned.pop(plan.name)

    def terminate(self, name: str) -> None:
        """Ask the process to end in order; nothing happens when it has ended."""
        self._send(op="terminate", name=name)

    def kill(self, name: str) -> None:
        """End the whole group at once; nothing happens when it has ended."""
        self._send(op="kill", name=name)

    def descriptors(self) -> list[int]:
        """Return what becomes readable when somebody ends."""
        return [self._control.fileno()]

    def poll(self) -> list[Ended]:
        """Return who has ended since the last call."""
        self._receive(timeout_s=0.0)
        ended, self._ended = self._ended, []
        return ended

    def close(self) -> None:
        """End the zygote and with it whatever it still runs; returns when all of it is gone."""
        self._control.close()
        if not self._is_ready:
            # It would look at the socket only after the imports.
            self._process.terminate()
        try:
            self._process.wait(_CLOSE_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            # Its servers are told by the kernel to die with it.
            self._process.kill()
            self._process.wait()

    def _send(self, **message: object) -> None:
        try:
            self._control.sendall(json.dumps(message).encode() + b"\n")
        except BrokenPipeError as exc:
            raise self._gone() from exc

    def _receive(self, timeout_s: float | None) -> None:
        readable, _, _ = select.select([self._control], [], [], timeout_s)
        if not readable:
            return
        data = self._control.recv(65536)
        if not data:
            raise self._gone()
        *lines, self._received = (self._received + data).split(b"\n")
        for line in lines:
            self._take(json.loads(line))

    def _take(self, message: dict[str, Any]) -> None:
        match message["event"]:
            case "ready":
                self._is_ready = True
            case "spawned":
                self._spawned[message["name"]] = message["pid"]
            case "ended":
                self._ended.append(Ended(message["name"], message["status"]))

    def _gone(self) -> LaunchError:
        status = self._process.wait()
        return LaunchError(f"the fork server ended with status {status}, see {self.log_path}")
