"""What one emulated worker is told."""

from dataclasses import dataclass, field

from hfx_sgl.emulator.desk import HandoffTimes
from hfx_sgl.emulator.faults import FaultPlan
from hfx_sgl.emulator.kv.settings import RealKv
from hfx_sgl.engine.spec import EngineSpec
from hfx_sgl.types import Role

SGLANG_VERSION = "0.5.23"
"""The version whose interface the emulated worker speaks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileFacts:
    """What a worker tells about the profile that it runs on."""

    name: str
    source: str
    model: str
    device: str
    num_devices: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSettings:
    """One worker."""

    name: str
    profile: ProfileFacts
    spec: EngineSpec
    """The role in it is the first one; a role switch changes it."""
    served_model_name: str
    host: str = "127.0.0.1"
    port: int
    bootstrap_port: int
    is_started: bool = True
    """Whether it is ready at once; else after `spec.startup_s`."""
    has_role_switch: bool = False
    reports_cache: bool = False
    """`--enable-cache-report`."""
    api_key: str | None = None
    """None: anybody may ask."""
    handoff: HandoffTimes = field(default_factory=HandoffTimes)
    real_kv: RealKv | None = None
    """How real bytes move in hand-offs; None: their time is modelled, and that is all."""
    faults: FaultPlan = field(default_factory=FaultPlan)

    @property
    def role(self) -> Role:
        """Its first role."""
        return self.spec.role

    @property
    def url(self) -> str:
        """Where it is reached."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"
