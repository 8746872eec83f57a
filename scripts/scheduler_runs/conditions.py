"""What the ranking has to survive: clusters, workloads and knowledge other than planned for."""

from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from baselines.shapes import Shape

from hfx_sgl.policy.latency.snapshot import LatencySnapshot
from hfx_sgl.sim.knowledge import Knowledge
from hfx_sgl.workload.load import DEFAULT_WORKLOAD

_WORKLOADS = Path(__file__).parent / "workloads"
_OTHER_PROFILE = "llama31-8b_a100_tp1"
_NUM_WORKERS = 4
"""Of every shape that is compared."""


class Models(StrEnum):
    """Which latency models the scheduler has."""

    NONE = "from nothing"
    SAVED = "from the usual"
    """Those that were fitted in the usual cluster, and that go on learning."""
    FROZEN = "the usual, frozen"
    """The same, learning nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What is as it is for every policy."""

    name: str
    time_scales: tuple[float, ...] = ()
    """As in SimSpec."""
    worker_profiles: tuple[str | None, ...] = ()
    """The same; None: the usual one."""
    workload: str = DEFAULT_WORKLOAD
    load_ratio: float = 1.0
    """What load factors are multiplied by, where the cluster or the workload is heavier."""
    only_pd: bool = False

    def has(self, shape: Shape) -> bool:
        """Whether it makes sense for a cluster."""
        return not self.only_pd or not shape.num_workers

    def changes(self, usual_profile: str) -> dict[str, Any]:
        """Return the fields of SimSpec that differ."""
        return {
            "time_scales": self.time_scales,
            "worker_profiles": tuple(name or usual_profile for name in self.worker_profiles),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One row: a world, and what the scheduler knows of it."""

    name: str
    text: str
    world: World
    models: Models = Models.NONE
    knowledge: Knowledge = field(default_factory=Knowledge)

    def knowledge_with(self, usual: LatencySnapshot) -> Knowledge:
        """Return what the scheduler knows, given the models of the usual cluster."""
        if self.models is Models.NONE:
            return self.knowledge
        return replace(
            self.knowledge, saved_models=usual, tells_times=self.models is not Models.FROZEN
        )


USUAL = World(name="usual")
_FASTER = World(name="faster", time_scales=(0.8,) * _NUM_WORKERS)
_SLOWER = World(name="slower", time_scales=(1.2,) * _NUM_WORKERS)
_SWAPPED = World(name="swapped", worker_profiles=(_OTHER_PROFILE,) * _NUM_WORKERS, load_ratio=0.5)
_MIXED = World(
    name="mixed-devices",
    worker_profiles=(_OTHER_PROFILE, None, _OTHER_PROFILE),
    load_ratio=0.75,
)
_SLOW_FIRST = World(name="slow-worker", time_scales=(2.0,), load_ratio=0.75)
_SLOW_DECODE = World(name="slow-decode", time_scales=(1.0, 1.0, 2.0), only_pd=True)
_PREFIXES = World(
    name="prefix-heavy", workload=str(_WORKLOADS / "prefix_heavy.yaml"), load_ratio=0.75
)
_NO_SHARING = World(name="no-sharing", workload=str(_WORKLOADS / "no_sharing.yaml"))


def _with_models(name: str, text: str, world: World) -> tuple[Condition, ...]:
    return tuple(
        Condition(name=f"{name}, models {models}", text=text, world=world, models=models)
        for models in Models
    )


CONDITIONS = (
    Condition(name="usual", text="nothing is wrong", world=USUAL),
    *_with_models("all faster", "step times x 0.8", _FASTER),
    *_with_models("all slower", "step times x 1.2", _SLOWER),
    *_with_models("other tables", f"{_OTHER_PROFILE} everywhere", _SWAPPED),
    *_with_models("mixed tables", f"{_OTHER_PROFILE} on every other worker", _MIXED),
    Condition(
        name="slow worker",
        text="the first (prefill) worker: step times x 2",
        world=_SLOW_FIRST,
    ),
    Condition(name="slow decode worker", text="one of two: step times x 2", world=_SLOW_DECODE),
    Condition(
        name="late reports",
        text="load reports arrive 1 s late",
        world=USUAL,
        knowledge=Knowledge(report_delay_s=1.0),
    ),
    Condition(
        name="half the reports",
        text="of two load reports one is lost, on average",
        world=USUAL,
        knowledge=Knowledge(report_loss_ratio=0.5),
    ),
    *(
        Condition(
            name=f"no reports, models {models}",
            text="all load reports are lost",
            world=USUAL,
            models=models,
            knowledge=Knowledge(report_loss_ratio=1.0),
        )
        for models in (Models.NONE, Models.SAVED)
    ),
    Condition(
        name="prompt lengths guessed",
        text="up to 20 % off to either side",
        world=USUAL,
        knowledge=Knowledge(prompt_error_ratio=0.2),
    ),
    Condition(
        name="prefix-heavy", text="agents and documents: workloads/prefix_heavy", world=_PREFIXES
    ),
    Condition(
        name="no sharing",
        text="no two prompts begin alike: workloads/no_sharing",
        world=_NO_SHARING,
    ),
)
