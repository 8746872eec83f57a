"""Starts processes and tells when they end. Each server or router is a process group of its own."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Protocol

from hfx_sgl.launch.plan import InstancePlan

_EXEC = """\
import ctypes, os, signal, sys
PR_SET_PDEATHSIG = 1
ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
if os.getppid() == int(sys.argv[1]):
    os.execvp(sys.argv[2], sys.argv[2:])
"""
"""Becomes the command after having asked the kernel to end it together with its parent.

A step of its own, since running Python code between fork and exec is unsafe beside threads.
"""


class Ended(NamedTuple):
    """A process that has ended and been reaped."""

    name: str
    status: int
    """Its exit status; a negative one is the signal that ended it."""


class Spawner(Protocol):
    """Owns the processes it started. Not for use by several threads."""

    def spawn(self, plan: InstancePlan) -> int:
        """Start the process and return its id, which is also that of its group."""
        ...

    def terminate(self, name: str) -> None:
        """Ask the process to end in order; nothing happens when it has ended.

        Its helpers are left to it: a server that sees one vanish takes that for a crash.
        """
        ...

    def kill(self, name: str) -> None:
        """End the whole group at once; nothing happens when it has ended."""
        ...

    def descriptors(self) -> list[int]:
        """Return what becomes readable when somebody ends."""
        ...

    def poll(self) -> list[Ended]:
        """Return who has ended since the last call."""
        ...

    def close(self) -> None:
        """Release what the spawner itself holds. Its processes have ended by then."""
        ...


class DirectSpawner:
    """One child process for each plan, ended by the kernel should this process die suddenly."""

    def __init__(self) -> None:
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._pidfds: dict[str, int] = {}

    def spawn(self, plan: InstancePlan) -> int:
        """Start the process and return its id, which is also that of its group."""
        with Path(plan.log_path).open("wb") as log:
            child = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _EXEC, str(os.getpid()), *plan.argv],
                env={**os.environ, **plan.env},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._children[plan.name] = child
        self._pidfds[plan.name] = os.pidfd_open(child.pid)
        return child.pid

    def terminate(self, name: str) -> None:
        """Ask the process to end in order; nothing happens when it has ended."""
        if name in self._children:
            self._children[name].terminate()

    def kill(self, name: str) -> None:
        """End the whole group at once; nothing happens when it has ended."""
        if name in self._children:
            _kill_group(self._children[name].pid)

    def descriptors(self) -> list[int]:
        """Return what becomes readable when somebody ends."""
        return list(self._pidfds.values())

    def poll(self) -> list[Ended]:
        """Return who has ended since the last call."""
        ended = []
        for name, child in list(self._children.items()):
            # WNOWAIT leaves the pid taken, so that the group killed here is still the child's.
            if os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                continue
            _kill_group(child.pid)
            ended.append(Ended(name, child.wait()))
            del self._children[name]
            os.close(self._pidfds.pop(name))
        return ended

    def close(self) -> None:
        """Nothing is held beside the processes."""


def _kill_group(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
