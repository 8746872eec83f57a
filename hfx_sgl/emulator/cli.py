"""`hfx-emulator`: flags in, running workers until a signal."""

import sys
import tempfile
from collections.abc import Sequence

import uvloop

from hfx_sgl.clock import WallClock
from hfx_sgl.emulator.cluster import deal, plan_workers, router_command
from hfx_sgl.emulator.flags import parse_flags, read_shape
from hfx_sgl.emulator.host import host_workers
from hfx_sgl.emulator.settings import WorkerSettings
from hfx_sgl.engine.profile import EngineProfile, load_profile
from hfx_sgl.errors import ConfigError, LaunchError
from hfx_sgl.launch.cluster import Cluster, interrupt_on_termination
from hfx_sgl.launch.devices import Device
from hfx_sgl.launch.plan import ClusterPlan, InstancePlan
from hfx_sgl.launch.progress import Progress

_WATCH_S = 1.0
_PROCESS_START_S = 60.0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the emulator and return its exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    args = parse_flags(arguments)
    try:
        shape = read_shape(args)
        profile = load_profile(args.profile)
        workers = plan_workers(shape, profile)
        if shape.num_processes > 1 and args.only is None:
            return _run_processes(workers, shape.num_processes, arguments)
        mine = workers if args.only is None else [workers[at] for at in args.only]
        _run_here(mine, profile)
    except ConfigError as exc:
        for problem in exc.problems:
            print(problem, file=sys.stderr)
        return 2
    except LaunchError as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 1
    return 0


def _run_here(workers: list[WorkerSettings], profile: EngineProfile) -> None:
    progress = Progress(sys.stderr, WallClock())
    uvloop.run(
        host_workers(
            workers,
            profile.step_times,
            progress=progress,
            on_ready=lambda: _announce(workers, progress),
        )
    )


def _run_processes(workers: list[WorkerSettings], num: int, arguments: list[str]) -> int:
    """Spread the workers over child processes; ends with the first child that ends."""
    interrupt_on_termination()
    plan = ClusterPlan(device=Device.CPU, servers=(), router=None)
    timeout_s = _PROCESS_START_S + max(worker.spec.startup_s for worker in workers)
    with tempfile.TemporaryDirectory(prefix="hfx-emulator-") as logs:
        try:
            with Cluster(plan, ready_timeout_s=timeout_s) as cluster:
                cluster.add(
                    *(
                        _child(number, mine, workers, arguments, logs)
                        for number, mine in enumerate(deal(len(workers), num))
                    )
                )
                _announce(workers, Progress(sys.stderr, WallClock()))
                return _watch(cluster)
        except KeyboardInterrupt:
            return 0


def _watch(cluster: Cluster) -> int:
    while True:
        for ended in cluster.poll(_WATCH_S):
            cluster.report_end(ended)
            raise LaunchError(f"{ended.plan.name} has ended, and everything with it")


def _child(
    number: int, mine: list[int], workers: list[WorkerSettings], arguments: list[str], logs: str
) -> InstancePlan:
    only = ",".join(map(str, mine))
    return InstancePlan(
        name=f"process-{number}",
        role=None,
        argv=(sys.executable, "-m", "hfx_sgl.emulator", *arguments, "--only", only),
        # The last one to be started: when it answers, all of the process do.
        url=workers[mine[-1]].url,
        log_path=f"{logs}/process-{number}.log",
    )


def _announce(workers: list[WorkerSettings], progress: Progress) -> None:
    progress.finish(f"ready: {len(workers)} emulated workers")
    if (real := workers[0].real_kv) is not None:
        print(
            f"hand-offs move real bytes over {real.backend}: {real.bytes_per_token} for each "
            f"token, where the model has {workers[0].spec.kv_bytes_per_token}"
        )
    for worker in workers:
        bootstrap = f"  (bootstrap port {worker.bootstrap_port})"
        print(f"{worker.name:12} {worker.url}{bootstrap if worker.role == 'prefill' else ''}")
    print(
        f"\nA router for them:\n  {router_command(workers)}\n\nCtrl-C ends everything.", flush=True
    )
