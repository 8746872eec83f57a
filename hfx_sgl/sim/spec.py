"""What is simulated: the cluster, its engines, the router's policies and the network between."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from hfx_sgl.engine.profile import DEFAULT_PROFILE
from hfx_sgl.errors import ConfigError
from hfx_sgl.policy.bounds import at_least, check, more_than
from hfx_sgl.policy.scheduler.config import SchedulerConfig
from hfx_sgl.policy.selection.catalog import POLICY_NAMES, PREFILL_POLICY_NAMES
from hfx_sgl.policy.selection.config import SelectionConfig
from hfx_sgl.sim.knowledge import Knowledge
from hfx_sgl.types import Role


@dataclass(frozen=True, slots=True, kw_only=True)
class SimSpec:
    """One simulation but for its workload. Can be sent to another process.

    Raises:
        ConfigError: a cluster that cannot serve anything, or a value out of range.
    """

    profile: str = DEFAULT_PROFILE
    """Name or folder of the engine profile that workers have."""
    num_workers: int = 0
    """Unified workers; 0 with prefill/decode disaggregation."""
    num_prefill: int = 0
    num_decode: int = 0
    worker_profiles: tuple[str, ...] = ()
    """Profiles of the workers in order, prefill workers first; those beyond have `profile`."""
    time_scales: tuple[float, ...] = ()
    """What the step times of the workers are multiplied by, in the same order; 1 beyond."""
    policy: str = "cache_aware"
    """As in the router: holds for both roles unless the next two say otherwise."""
    prefill_policy: str | None = None
    decode_policy: str | None = None
    selection: SelectionConfig = field(default_factory=SelectionConfig)
    scheduler: SchedulerConfig = field(default_factory=SchedulerConfig)
    """Of the policy hfx; so is the next."""
    knowledge: Knowledge = field(default_factory=Knowledge)
    engine: Mapping[str, object] = field(default_factory=dict)
    """Fields of EngineSpec that differ from the profile's."""
    network_s: float = 0.0015
    """From client to worker through the router, and as long back: HTTP and the router's work.
    The default is what an emulated cluster takes on a small virtual machine."""
    handshake_s: float = 0.002
    """From the decode worker's reservation until the prefill worker knows of it; likewise."""
    max_drain_s: float = 300.0
    """How long requests may go on after the last arrival; what is left then has timed out."""
    sample_interval_s: float | None = 10.0
    """How often workers are sampled; None: never."""
    seed: int = 0
    """Of the policies' random choices, and of what is lost. A workload has its own."""

    def __post_init__(self) -> None:
        check(
            at_least("--workers", self.num_workers, 0),
            at_least("--prefill", self.num_prefill, 0),
            at_least("--decode", self.num_decode, 0),
            *(more_than("--time-scales", scale, 0) for scale in self.time_scales),
            at_least("--network-s", self.network_s, 0),
            at_least("--handshake-s", self.handshake_s, 0),
            at_least("--max-drain-s", self.max_drain_s, 0),
            None
            if self.sample_interval_s is None
            else more_than("--sample-interval-s", self.sample_interval_s, 0),
        )
        self._check_shape()
        self._check_policies()

    def _check_shape(self) -> None:
        if self.num_workers and self.is_pd:
            raise ConfigError(
                "--workers: a cluster has unified workers, or prefill and decode workers, not both"
            )
        if self.is_pd and not self.num_decode:
            raise ConfigError("--decode: prefill workers need at least one decode worker")
        if self.is_pd and not self.num_prefill:
            raise ConfigError("--prefill: decode workers need at least one prefill worker")
        if not self.num_workers and not self.is_pd:
            raise ConfigError("--workers: a cluster needs at least one worker")
        num_workers = sum(self.num_of.values())
        for flag, values in (
            ("--worker-profiles", self.worker_profiles),
            ("--time-scales", self.time_scales),
        ):
            if len(values) > num_workers:
                raise ConfigError(
                    f"{flag}: more than there are workers ({len(values)} > {num_workers})"
                )
        if not self.is_pd and (self.prefill_policy or self.decode_policy):
            given = "--prefill-policy" if self.prefill_policy else "--decode-policy"
            raise ConfigError(f"{given}: there are no such workers in a cluster of unified ones")

    def _check_policies(self) -> None:
        """Refuse what the router refuses: a policy for prefill workers anywhere else."""
        for flag, name in (("--policy", self.policy), ("--decode-policy", self.decode_policy)):
            if name in PREFILL_POLICY_NAMES and name not in POLICY_NAMES:
                raise ConfigError(f"{flag}: {name} is for prefill workers only")

    @property
    def is_pd(self) -> bool:
        """Whether prefill and decode are separated."""
        return bool(self.num_prefill or self.num_decode)

    @property
    def shape(self) -> str:
        """The cluster as people write it: `4`, `2P+2D`."""
        return f"{self.num_prefill}P+{self.num_decode}D" if self.is_pd else str(self.num_workers)

    @property
    def num_of(self) -> dict[Role, int]:
        """How many workers each pool has; only pools that exist."""
        if self.is_pd:
            return {Role.PREFILL: self.num_prefill, Role.DECODE: self.num_decode}
        return {Role.REGULAR: self.num_workers}

    def policy_of(self, role: Role) -> str:
        """Return the name of a pool's policy."""
        own = {Role.PREFILL: self.prefill_policy, Role.DECODE: self.decode_policy}.get(role)
        return own or self.policy

    @property
    def policy_label(self) -> str:
        """The policies in one word: `cache_aware`, `cache_aware+power_of_two`."""
        return "+".join(dict.fromkeys(self.policy_of(role) for role in self.num_of))
