"""Which workers there are: a shape, a profile and flags in, the settings of each worker out."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from hfx_sgl.emulator.desk import HandoffTimes
from hfx_sgl.emulator.faults import FaultPlan
from hfx_sgl.emulator.kv.settings import RealKv
from hfx_sgl.emulator.settings import ProfileFacts, WorkerSettings
from hfx_sgl.engine.profile import EngineProfile
from hfx_sgl.errors import ConfigError
from hfx_sgl.launch.spec import MAX_PORT, MIN_PORT, PORTS_PER_SERVER
from hfx_sgl.types import Role


@dataclass(frozen=True, slots=True, kw_only=True)
class EmulatorShape:
    """What somebody wants to run."""

    num_regular: int = 0
    num_prefill: int = 0
    num_decode: int = 0
    num_processes: int = 1
    host: str = "127.0.0.1"
    base_port: int = 21000
    """Each worker takes ten ports from here on: its own, then its bootstrap server's."""
    served_model_name: str | None = None
    """None: the profile's."""
    startup_s: float = 0.0
    has_role_switch: bool = False
    reports_cache: bool = False
    api_key: str | None = None
    engine: Mapping[str, object] = field(default_factory=dict)
    """Fields of EngineSpec that differ from the profile's."""
    handoff: HandoffTimes = field(default_factory=HandoffTimes)
    real_kv: RealKv | None = None
    """None: hand-offs are modelled, and nothing but messages moves."""
    faults: FaultPlan = field(default_factory=FaultPlan)

    @property
    def roles(self) -> list[tuple[Role, int]]:
        """Role and number within the role of each worker, in the order of their ports."""
        counts = (
            (Role.PREFILL, self.num_prefill),
            (Role.DECODE, self.num_decode),
            (Role.REGULAR, self.num_regular),
        )
        return [(role, ordinal) for role, count in counts for ordinal in range(count)]


def plan_workers(shape: EmulatorShape, profile: EngineProfile) -> list[WorkerSettings]:
    """Return the settings of each worker.

    Raises:
        ConfigError: the shape is impossible; one problem for each field at fault.
    """
    problems = _problems(shape)
    if problems:
        raise ConfigError(*problems)
    facts = ProfileFacts(
        name=profile.name,
        source=profile.source,
        model=profile.model,
        device=profile.device,
        num_devices=profile.num_devices,
    )
    spec = profile.make_spec(Role.REGULAR, **shape.engine)
    if shape.real_kv is not None:
        problems = shape.real_kv.problems(
            max_context_tokens=spec.max_context_tokens, page_tokens=spec.page_tokens
        )
        if problems:
            raise ConfigError(*problems)
    workers = []
    for slot, (role, ordinal) in enumerate(shape.roles):
        port = shape.base_port + PORTS_PER_SERVER * slot
        workers.append(
            WorkerSettings(
                name=f"{role.value}-{ordinal}",
                profile=facts,
                spec=profile.make_spec(role, startup_s=shape.startup_s, **shape.engine),
                served_model_name=shape.served_model_name or profile.model,
                host=shape.host,
                port=port,
                bootstrap_port=port + 1,
                is_started=shape.startup_s == 0,
                has_role_switch=shape.has_role_switch,
                reports_cache=shape.reports_cache,
                api_key=shape.api_key,
                handoff=shape.handoff,
                real_kv=shape.real_kv,
                faults=shape.faults,
            )
        )
    return workers


def deal(num_workers: int, num_processes: int) -> list[list[int]]:
    """Return which workers each process hosts, as evenly as can be."""
    return [list(range(first, num_workers, num_processes)) for first in range(num_processes)]


def router_command(workers: list[WorkerSettings]) -> str:
    """Return the command that starts a router in front of these workers."""
    regular = [worker.url for worker in workers if worker.role is Role.REGULAR]
    if regular:
        return " ".join(("hfx-router --worker-urls", *regular))
    parts = ["hfx-router --pd-disaggregation"]
    for worker in workers:
        if worker.role is Role.PREFILL:
            parts.append(f"--prefill {worker.url} {worker.bootstrap_port}")
        else:
            parts.append(f"--decode {worker.url}")
    return " ".join(parts)


def _problems(shape: EmulatorShape) -> list[str]:
    counts = {
        "workers": shape.num_regular,
        "prefill": shape.num_prefill,
        "decode": shape.num_decode,
    }
    problems = [f"{name}: must be at least 0 ({n})" for name, n in counts.items() if n < 0]
    num_workers = sum(counts.values())
    if num_workers < 1:
        problems.append("workers: there must be at least one worker")
    if not 1 <= shape.num_processes <= max(1, num_workers):
        problems.append(
            f"processes: must be between 1 and the number of workers ({shape.num_processes})"
        )
    last_port = shape.base_port + PORTS_PER_SERVER * num_workers - 1
    if shape.base_port < MIN_PORT or last_port > MAX_PORT:
        problems.append(
            f"base_port: ports must lie between {MIN_PORT} and {MAX_PORT}; {num_workers} workers "
            f"need {shape.base_port} to {last_port}"
        )
    if shape.startup_s < 0:
        problems.append(f"startup_s: must not be negative ({shape.startup_s})")
    if shape.real_kv is not None and shape.num_prefill + shape.num_decode == 0:
        problems.append("kv: only prefill and decode workers hand KV over")
    return problems
