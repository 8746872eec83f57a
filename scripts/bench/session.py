"""One benchmark run: starts workers and routers, walks the plan, returns the measurements."""

import subprocess
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from bench.plan import Phase, plan_round, selected
from bench.processes import HOST, PinnedProcess, wait_until_serving
from bench.results import LoadReport, Measurement, Settings, SetupName, WorkerCounts
from bench.summary import READINGS
from bench.toolchain import BenchError, Say, Tools

SETTLE_S = 0.3
"""Between phases: time for the connections of the last one to be torn down."""

LOAD_GRACE_S = 30.0

WORKER_ROLES = {"null": 0, "prefill": 1, "decode": 2}
"""SGLang's disaggregation modes, and the offset of the mock worker's port."""

POLICIES = {
    SetupName.HFX_CACHE_AWARE: "cache_aware",
    SetupName.HFX_SCHEDULED: "hfx",
    SetupName.HFX_PD_SCHEDULED: "hfx",
}
"""What is not round_robin."""

PD_ROUTERS = frozenset((SetupName.SGLANG_PD, SetupName.HFX_PD, SetupName.HFX_PD_SCHEDULED))

FIRST_ROUTER_OFFSET = 10
FIRST_METRICS_OFFSET = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where things run."""

    base_port: int
    router_core: int
    load_core: int
    log_dir: Path
    hfx_python: str
    env: Mapping[str, str]


@dataclass(slots=True, kw_only=True)
class Session:
    """The processes of one run. `measure` may be called once."""

    settings: Settings
    place: Place
    tools: Tools
    say: Say
    _workers: dict[str, PinnedProcess] = field(default_factory=dict)
    _routers: dict[SetupName, PinnedProcess] = field(default_factory=dict)
    _ports: dict[SetupName, int] = field(default_factory=dict)

    def measure(self) -> tuple[list[Measurement], dict[str, WorkerCounts]]:
        """Run every round; stop everything that was started, whatever happens."""
        self.place.log_dir.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            self._start_workers(stack)
            self._start_routers(stack)
            measurements = self._run_rounds()
        counts = {role: self._counts_of(role) for role in self._workers}
        return measurements, counts

    def _start_workers(self, stack: ExitStack) -> None:
        setups = selected(self.settings.only)[0]
        needs_pd = not PD_ROUTERS.isdisjoint(setups)
        roles = list(WORKER_ROLES) if needs_pd else ["null"]
        for role in roles:
            port = self.place.base_port + WORKER_ROLES[role]
            interval_us = str(self.settings.token_interval_us)
            worker = PinnedProcess(
                [str(self.tools.mock_worker), str(port), role, interval_us],
                core=self.place.load_core,
                log_path=self.place.log_dir / f"worker-{role}.log",
            )
            stack.callback(worker.stop)
            self._workers[role] = worker
            wait_until_serving(worker, port, ready_path="/health")
        self._ports[SetupName.DIRECT] = self.place.base_port

    def _start_routers(self, stack: ExitStack) -> None:
        setups = [s for s in selected(self.settings.only)[0] if s is not SetupName.DIRECT]
        for index, setup in enumerate(setups):
            self.say(f"starting {setup}")
            port = self.place.base_port + FIRST_ROUTER_OFFSET + index
            metrics_port = self.place.base_port + FIRST_METRICS_OFFSET + index
            router = PinnedProcess(
                router_command(
                    setup,
                    self.place,
                    self.tools,
                    port=port,
                    metrics_port=metrics_port,
                    log_level=self.settings.log_level,
                ),
                core=self.place.router_core,
                log_path=self.place.log_dir / f"{setup.replace(' ', '-')}.log",
                env=self.place.env,
            )
            stack.callback(router.stop)
            self._routers[setup] = router
            self._ports[setup] = port
            wait_until_serving(router, port, ready_path="/readiness")

    def _run_rounds(self) -> list[Measurement]:
        rounds = [plan_round(self.settings, i) for i in range(self.settings.num_rounds)]
        num_steps = sum(map(len, rounds))
        measurements: list[Measurement] = []
        started_s = time.monotonic()
        for round_index, steps in enumerate(rounds):
            for setup, phase in steps:
                load = self._run_phase(setup, phase)
                item = Measurement(
                    round_index=round_index, setup=setup, phase=phase.name, load=load
                )
                measurements.append(item)
                spent_s = time.monotonic() - started_s
                left_s = spent_s / len(measurements) * (num_steps - len(measurements))
                self.say(f"[{len(measurements)}/{num_steps}, {left_s:.0f} s left] {progress(item)}")
        return measurements

    def _run_phase(self, setup: SetupName, phase: Phase) -> LoadReport:
        router = self._routers.get(setup)
        time.sleep(SETTLE_S)
        command = [
            str(self.tools.load_client),
            str(self._ports[setup]),
            str(phase.num_connections),
            str(phase.seconds),
            str(phase.warmup_s),
            "stream" if phase.is_stream else "plain",
            str(phase.num_tokens),
            str(router.pid if router else 0),
        ]
        name = f"{setup}, {phase.name}"
        limit_s = phase.warmup_s + phase.seconds + LOAD_GRACE_S
        try:
            outcome = subprocess.run(
                command, capture_output=True, text=True, timeout=limit_s, check=False
            )
        except subprocess.TimeoutExpired as exc:
            raise BenchError(f"{name}: the load client did not end within {limit_s:g} s") from exc
        log = f"\n{router.log_tail()}" if router else ""
        if outcome.returncode:
            raise BenchError(f"{name}: the load client failed: {outcome.stderr.strip()}{log}")
        load = msgspec.json.decode(outcome.stdout, type=LoadReport)
        if not (load.num_chunks if phase.is_stream else load.num_requests):
            raise BenchError(f"{name}: no answer within {phase.seconds:g} s{log}")
        if outcome.stderr:
            self.say(f"{name}: {outcome.stderr.strip()}")
        return load

    def _counts_of(self, role: str) -> WorkerCounts:
        text = self._workers[role].stop()
        return msgspec.json.decode(text.splitlines()[-1], type=WorkerCounts)


def router_command(
    setup: SetupName,
    place: Place,
    tools: Tools,
    *,
    port: int,
    metrics_port: int,
    log_level: str,
) -> list[str]:
    """Return the command of a router: its own defaults but for workers, policy and log level."""
    is_ours = setup not in (SetupName.SGLANG_REGULAR, SetupName.SGLANG_PD)
    python = place.hfx_python if is_ours else str(tools.sglang_python)
    module = "hfx_router.launch_router" if is_ours else "sglang_router.launch_router"
    urls = {role: f"http://{HOST}:{place.base_port + off}" for role, off in WORKER_ROLES.items()}
    policy = POLICIES.get(setup, "round_robin")
    if setup in PD_ROUTERS:
        workers = ["--pd-disaggregation", "--prefill", urls["prefill"], "8998"]
        workers += ["--decode", urls["decode"]]
    else:
        workers = ["--worker-urls", urls["null"]]
    address = ["--host", HOST, "--port", str(port)]
    address += ["--prometheus-host", HOST, "--prometheus-port", str(metrics_port)]
    options = ["--policy", policy, "--log-level", log_level]
    return [python, "-m", module, *workers, *options, *address]


def progress(item: Measurement) -> str:
    """Return one line on what was measured."""
    readings = READINGS[item.phase].items()
    figures = [(name, read(item.load)) for name, read in readings]
    shown = ", ".join(f"{name} {value:,.1f}" for name, value in figures if value is not None)
    return f"round {item.round_index + 1}, {item.setup}, {item.phase}: {shown}"
