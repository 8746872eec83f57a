"""Runs a plan: starts every process, waits until it serves, stops all of them again."""

import http.client
import select
import signal
import socket
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self, TextIO
from urllib.parse import urlsplit

from hfx_sgl.clock import Clock, WallClock
from hfx_sgl.errors import LaunchError
from hfx_sgl.launch.devices import Device
from hfx_sgl.launch.fork_server import ForkServer
from hfx_sgl.launch.plan import ClusterPlan, InstancePlan
from hfx_sgl.launch.progress import Progress
from hfx_sgl.launch.spawner import DirectSpawner, Spawner
from hfx_sgl.launch.weights import GiveUp

_POLL_S = 0.2
_PROBE_TIMEOUT_S = 1.0
_KILL_TIMEOUT_S = 10.0
_LOG_TAIL_LINES = 30


class Instance:
    """One process of a running cluster."""

    def __init__(self, plan: InstancePlan, spawner: Spawner, pid: int) -> None:
        self.plan = plan
        self.spawner = spawner
        self.pid = pid
        self.status: int | None = None
        """Its exit status, negative for a signal; None while it runs."""
        self.is_ready = False
        self.is_stopping = False

    def __repr__(self) -> str:
        state = "ready" if self.is_ready else "starting"
        if self.status is not None:
            state = f"ended with {self.status}"
        return f"<Instance {self.plan.name} pid={self.pid} {state}>"


class Cluster:
    """The processes of a plan, for the length of a `with` block.

    Servers on a CPU are forks of one warm process; all others are started directly. Use it from
    the main thread: the kernel ends direct children when the thread that started them ends.

    Args:
        start_servers: starts the plan's servers and waits for them; None starts all at once.
        ready_timeout_s: how long starting may take, imports included.
        stop_grace_s: how long a process may take to end in order before it is killed.
        stream: where progress and log excerpts are shown.
    """

    def __init__(
        self,
        plan: ClusterPlan,
        *,
        start_servers: Callable[["Cluster", Sequence[InstancePlan]], None] | None = None,
        ready_timeout_s: float = 600.0,
        stop_grace_s: float = 10.0,
        stream: TextIO | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.instances: dict[str, Instance] = {}
        self._plan = plan
        self._start_servers = start_servers
        self._ready_timeout_s = ready_timeout_s
        self._stop_grace_s = stop_grace_s
        self._clock = clock or WallClock()
        self._progress = Progress(stream or sys.stderr, self._clock)
        self._direct = DirectSpawner()
        self._forks: ForkServer | None = None

    def __enter__(self) -> Self:
        try:
            self._start_all()
        except BaseException:
            self.stop_all()
            raise
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop_all()

    @property
    def urls(self) -> dict[str, str]:
        """The URL of each process that runs, by name."""
        return {i.plan.name: i.plan.url for i in self.instances.values() if i.status is None}

    def add(self, *plans: InstancePlan) -> None:
        """Start more processes and wait until they serve.

        Raises:
            LaunchError: one of them ended, or was not ready in time. What was added is stopped.
        """
        deadline_s = self._clock.now_s() + self._ready_timeout_s
        added = [self._spawn(plan) for plan in plans]
        try:
            self._wait_ready(added, deadline_s)
        except LaunchError:
            self._end(added, self._stop_grace_s)
            raise

    def try_add(
        self, *plans: InstancePlan, timeout_s: float | None = None, give_up: GiveUp | None = None
    ) -> dict[str, str]:
        """Start more processes and return why some of them do not serve, by name.

        Those are stopped; the others stay. `timeout_s` is for all of them together, None for the
        cluster's own limit; `give_up` is asked for each that is not ready, a few times a second.
        """
        limit_s = self._ready_timeout_s if timeout_s is None else timeout_s
        deadline_s = self._clock.now_s() + limit_s
        added = [self._spawn(plan) for plan in plans]
        failed: dict[str, str] = {}
        while waiting := [i for i in added if not i.is_ready and i.plan.name not in failed]:
            self._look_at(waiting)
            self._progress.show(_describe(added))
            for instance in waiting:
                reason = None
                if instance.status is not None:
                    reason = f"ended with {describe_status(instance.status)}"
                elif not instance.is_ready:
                    reason = give_up(instance.plan) if give_up is not None else None
                    if reason is None and self._clock.now_s() > deadline_s:
                        reason = f"not ready after {limit_s:g} s"
                if reason is not None:
                    failed[instance.plan.name] = reason
        self._end([i for i in added if i.plan.name in failed], self._stop_grace_s)
        names = [i.plan.name for i in added if i.is_ready]
        self._progress.finish(f"ready: {', '.join(names) or 'none'}")
        return failed

    def note(self, text: str) -> None:
        """Tell the user something, between the lines about progress."""
        self._progress.note(text)

    def kill(self, name: str) -> None:
        """End a process group with SIGKILL, as a crash would; returns when it has ended."""
        self._end([self.instances[name]], grace_s=0.0)

    def stop(self, name: str, grace_s: float | None = None) -> None:
        """End a process in order; killed after `grace_s`, the cluster's own when None."""
        self._end([self.instances[name]], self._stop_grace_s if grace_s is None else grace_s)

    def poll(self, timeout_s: float = 0.0) -> list[Instance]:
        """Return who has ended unasked since the last call, waiting up to `timeout_s`."""
        spawners: list[Spawner] = [self._direct]
        if self._forks is not None:
            spawners.append(self._forks)
        ended = self._collect(spawners)
        if not ended and timeout_s > 0:
            descriptors = [number for spawner in spawners for number in spawner.descriptors()]
            select.select(descriptors, [], [], timeout_s)
            ended = self._collect(spawners)
        return ended

    def stop_all(self) -> None:
        """End everything, the router before the servers; returns when all of it has ended."""
        everyone = list(self.instances.values())
        self._end([i for i in everyone if i.plan.role is None], self._stop_grace_s)
        self._end([i for i in everyone if i.plan.role is not None], self._stop_grace_s)
        if self._forks is not None:
            self._forks.close()
            self._forks = None

    def log_tail(self, instance: Instance) -> str:
        """Return the last lines of a process's log, ready to be shown."""
        return _tail(instance.plan.log_path)

    def report_end(self, instance: Instance) -> None:
        """Show that a process ended, and the end of its log."""
        self._progress.note(
            f"{instance.plan.name} ended with {describe_status(instance.status)}, "
            f"the end of {instance.plan.log_path}:\n{self.log_tail(instance)}"
        )

    def _collect(self, spawners: Iterable[Spawner]) -> list[Instance]:
        unasked = []
        for spawner in spawners:
            for name, status in spawner.poll():
                instance = self.instances[name]
                instance.status = status
                instance.is_ready = False
                if not instance.is_stopping:
                    unasked.append(instance)
        return unasked

    def _start_all(self) -> None:
        deadline_s = self._clock.now_s() + self._ready_timeout_s
        servers = self._plan.servers
        # All of them at once, before the expensive part.
        router = () if self._plan.router is None else (self._plan.router,)
        for plan in (*servers, *router):
            _check_port_is_free(plan)
        if servers and self._plan.device is Device.CPU:
            self._start_fork_server(servers[0], deadline_s)
        if self._start_servers is not None:
            self._start_servers(self, servers)
        else:
            self._wait_ready([self._spawn(plan) for plan in servers], deadline_s)
        if router:
            self._wait_ready([self._spawn(plan) for plan in router], deadline_s)

    def _start_fork_server(self, server: InstancePlan, deadline_s: float) -> None:
        log_path = str(Path(server.log_path).with_name("fork-server.log"))
        Path(log_path).parent.mkdir(parents=True, exist_ok=True)
        self._forks = ForkServer(python=server.argv[0], env=server.env, log_path=log_path)
        try:
            self._forks.wait_ready(
                deadline_s=deadline_s,
                clock=self._clock,
                tick=lambda: self._progress.show("importing SGLang, once for all servers"),
            )
        except LaunchError:
            self._progress.note(_tail(log_path))
            raise
        self._progress.finish("imported SGLang")

    def _spawn(self, plan: InstancePlan) -> Instance:
        known = self.instances.get(plan.name)
        if known is not None and known.status is None:
            raise LaunchError(f"{plan.name} is already running")
        _check_port_is_free(plan)
        Path(plan.log_path).parent.mkdir(parents=True, exist_ok=True)
        spawner: Spawner = self._direct
        if plan.role is not None and self._forks is not None:
            spawner = self._forks
        instance = Instance(plan, spawner, spawner.spawn(plan))
        self.instances[plan.name] = instance
        return instance

    def _wait_ready(self, instances: list[Instance], deadline_s: float) -> None:
        while waiting := [i for i in instances if not i.is_ready]:
            self._look_at(waiting)
            for instance in waiting:
                if instance.status is not None:
                    raise LaunchError(f"{instance.plan.name} ended before it was ready")
            self._progress.show(_describe(instances))
            if self._clock.now_s() > deadline_s:
                self._give_up(waiting)
        names = ", ".join(i.plan.name for i in instances)
        self._progress.finish(f"ready: {names}")

    def _look_at(self, waiting: Iterable[Instance]) -> None:
        """Take note of who has ended and who serves."""
        for ended in self.poll(_POLL_S):
            self.report_end(ended)
        for instance in waiting:
            if instance.status is None:
                instance.is_ready = answers_ok(instance.plan.url + instance.plan.ready_path)

    def _give_up(self, waiting: Iterable[Instance]) -> None:
        names = []
        for instance in waiting:
            if not instance.is_ready:
                names.append(instance.plan.name)
                self._progress.note(
                    f"{instance.plan.name} is not ready, "
                    f"the end of {instance.plan.log_path}:\n{self.log_tail(instance)}"
                )
        raise LaunchError(f"not ready after {self._ready_timeout_s:g} s: {', '.join(names)}")

    def _end(self, instances: list[Instance], grace_s: float) -> None:
        instances = [i for i in instances if i.status is None]
        for instance in instances:
            instance.is_stopping = True
        if grace_s > 0:
            for instance in instances:
                instance.spawner.terminate(instance.plan.name)
            self._wait_ended(instances, grace_s)
        for instance in instances:
            instance.spawner.kill(instance.plan.name)
        self._wait_ended(instances, _KILL_TIMEOUT_S)
        stuck = [i for i in instances if i.status is None]
        if stuck:
            raise LaunchError(f"the kernel does not end {', '.join(map(repr, stuck))}")

    def _wait_ended(self, instances: list[Instance], timeout_s: float) -> None:
        give_up_at_s = self._clock.now_s() + timeout_s
        while any(i.status is None for i in instances) and self._clock.now_s() < give_up_at_s:
            for ended in self.poll(_POLL_S):
                self.report_end(ended)


def interrupt_on_termination() -> None:
    """Make signals end this program as Ctrl-C at a terminal does, so `with` blocks are left."""
    # SIGINT too: a shell script's background job inherits it ignored.
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, _interrupt)


def _interrupt(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _check_port_is_free(plan: InstancePlan) -> None:
    # SGLang itself takes two minutes to give up on a port that is taken.
    parts = urlsplit(plan.url)
    family = socket.AF_INET6 if ":" in (parts.hostname or "") else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((parts.hostname, parts.port))
        except OSError as exc:
            raise LaunchError(f"{plan.name} cannot listen on {plan.url} ({exc.strerror})") from exc


def answers_ok(url: str) -> bool:
    """Whether a GET is answered with 200 within a second."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(
        parts.hostname or "", parts.port, timeout=_PROBE_TIMEOUT_S
    )
    try:
        connection.request("GET", parts.path)
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def describe_status(status: int | None) -> str:
    """Return an exit status in words."""
    if status is None:
        return "no status yet"
    return f"status {status}" if status >= 0 else signal.Signals(-status).name


def _describe(instances: Iterable[Instance]) -> str:
    return ", ".join(f"{i.plan.name} {'ready' if i.is_ready else 'starting'}" for i in instances)


def _tail(path: str) -> str:
    try:
        lines = Path(path).read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return "    (no log)"
    return "\n".join(f"    | {line}" for line in lines[-_LOG_TAIL_LINES:])
