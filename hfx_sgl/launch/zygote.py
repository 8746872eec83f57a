"""Imports SGLang once and forks a server for every request, so that a server costs seconds.

Runs as a file under the SGLang environment's interpreter: standard library and SGLang only.
CPU only, since an accelerator's context does not survive a fork. It owns the servers that it
forked: one process group each, ended when told to, and all of them when its parent is gone.

It is spoken to in JSON lines over a unix socket, inherited as the descriptor in argv[1]:

    {"op": "spawn", "name": ..., "args": [...], "env": {...}, "log_path": ...}
    {"op": "terminate", "name": ...}    SIGTERM to the server, which ends its helpers itself
    {"op": "kill", "name": ...}         SIGKILL to its whole process group

and answers {"event": "ready"}, {"event": "spawned", "name", "pid"} and, unasked,
{"event": "ended", "name", "status"}, where a negative status is the signal that ended it.
"""

import ctypes
import gc
import importlib
import json
import multiprocessing
import os
import select
import shutil
import signal
import socket
import sys
import tempfile
import traceback
from typing import Any, NoReturn

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_TERM_GRACE_S = 10

_PRELOADED = (
    "sglang.launch_server",
    "sglang.srt.disaggregation.mooncake.conn",
    "sglang.srt.entrypoints.http_server",
    "sglang.srt.entrypoints.openai.serving_responses",
    "sglang.srt.managers.detokenizer_manager",
    "sglang.srt.managers.scheduler",
    # Imports the module of every model.
    "sglang.srt.models.registry",
)
"""What the three processes of a server would otherwise each import for themselves."""


def main() -> None:
    """Import, then serve until the socket closes or SIGTERM comes."""
    control = socket.socket(fileno=int(sys.argv[1]))
    signal.signal(signal.SIGTERM, _on_term)
    # SGLang leaves its sockets behind in the folder for temporary files.
    folder = tempfile.mkdtemp(prefix="hfx-")
    os.environ["TMPDIR"] = tempfile.tempdir = folder
    try:
        _import_sglang()
        # Frozen objects are left alone by the collector, so that their pages stay shared.
        gc.collect()
        gc.freeze()
        Zygote(control).serve()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _on_term(*_: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit()


def _import_sglang() -> None:
    for name in _PRELOADED:
        importlib.import_module(name)
    import torch

    torch.set_num_threads(1)


def _prctl(option: int, value: int) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option}) failed")


class Zygote:
    """The fork server's loop. `_pids` holds exactly the servers that have not been reaped."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._pids: dict[str, int] = {}
        self._received = b""
        self._wakeup_r, self._wakeup_w = os.pipe()
        os.set_blocking(self._wakeup_r, False)
        os.set_blocking(self._wakeup_w, False)

    def serve(self) -> None:
        """Run until told to end; on return no process of any server is left."""
        # Processes that a dead server leaves behind become our children and are reaped here.
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        # The terminal's Ctrl-C goes to the launcher, which ends us in order.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.set_wakeup_fd(self._wakeup_w)
        try:
            self._send(event="ready")
            while self._step():
                pass
        except SystemExit:
            # SIGTERM. The servers have to go as if the launcher had closed the socket.
            pass
        finally:
            self._end_all()

    def _step(self) -> bool:
        """Handle what has happened; False when the launcher has closed the socket."""
        control = self._control.fileno()
        readable, _, _ = select.select([control, self._wakeup_r], [], [])
        if self._wakeup_r in readable:
            os.read(self._wakeup_r, 4096)
            self._reap()
        if control in readable:
            data = self._control.recv(65536)
            if not data:
                return False
            *lines, self._received = (self._received + data).split(b"\n")
            for line in lines:
                self._handle(json.loads(line))
        return True

    def _handle(self, message: dict[str, Any]) -> None:
        name = message["name"]
        if message["op"] == "spawn":
            pid = os.fork()
            if pid == 0:
                self._become_server(message)
            self._pids[name] = pid
            self._send(event="spawned", name=name, pid=pid)
        elif name in self._pids:
            if message["op"] == "terminate":
                os.kill(self._pids[name], signal.SIGTERM)
            else:
                _kill_group(self._pids[name])

    def _become_server(self, message: dict[str, Any]) -> NoReturn:
        status = 1
        try:
            os.setsid()
            signal.set_wakeup_fd(-1)
            for signum in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
                signal.signal(signum, signal.SIG_DFL)
            for descriptor in (self._control.detach(), self._wakeup_r, self._wakeup_w):
                os.close(descriptor)
            _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            log = os.open(message["log_path"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(log, 1)
            os.dup2(log, 2)
            os.environ.update(message["env"])
            _run_server(message["args"])
        except SystemExit as exc:
            status = exc.code if isinstance(exc.code, int) else 1
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            # Nothing of the zygote's own stack may run in the child.
            os._exit(status)

    def _reap(self) -> None:
        """Bury every ended process; what a server leaves running in its group is killed."""
        names = {pid: name for name, pid in self._pids.items()}
        while True:
            try:
                found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if found is None:
                return
            name = names.get(found.si_pid)
            if name is not None:
                # Before it is reaped, its pid cannot name anybody else's group.
                _kill_group(found.si_pid)
            _, status = os.waitpid(found.si_pid, 0)
            if name is not None:
                del self._pids[name]
                self._send(event="ended", name=name, status=os.waitstatus_to_exitcode(status))

    def _end_all(self) -> None:
        """SIGTERM to every server, SIGKILL after the grace period, and wait for all."""
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
        for pid in self._pids.values():
            os.kill(pid, signal.SIGTERM)
        self._bury_all()
        for pid in self._pids.values():
            _kill_group(pid)
        self._bury_all()

    def _bury_all(self) -> None:
        """Return when no child is left, or when none has ended for the grace period."""
        while self._has_children():
            if signal.sigtimedwait([signal.SIGCHLD], _TERM_GRACE_S) is None:
                return

    def _has_children(self) -> bool:
        self._reap()
        try:
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return False
        return True

    def _send(self, **message: object) -> None:
        try:
            self._control.sendall(json.dumps(message).encode() + b"\n")
        except (BrokenPipeError, ConnectionResetError):
            # The launcher is gone; the next look at the socket says so and ends us.
            return


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        # Forked so recently that it has not made its group yet; an unreaped pid is still its own.
        os.kill(pid, signal.SIGKILL)


def _run_server(args: list[str]) -> None:
    """Do what `python -m sglang.launch_server` does, with forked instead of spawned helpers."""
    from sglang.launch_server import run_server
    from sglang.srt.plugins import load_plugins
    from sglang.srt.server_args import prepare_server_args
    from sglang.srt.utils import kill_process_tree

    set_start_method = multiprocessing.set_start_method
    multiprocessing.set_start_method = lambda *_, **__: set_start_method("fork", force=True)
    sys.argv = ["sglang.launch_server", *args]
    load_plugins()
    try:
        run_server(prepare_server_args(args))
    finally:
        kill_process_tree(os.getpid(), include_parent=False)


if __name__ == "__main__":
    main()
