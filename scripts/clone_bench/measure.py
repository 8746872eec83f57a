"""Starts servers of one model in turn: from a cold disk, from a warm one, from a peer."""

import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from clone_bench.models import forget, weights_bytes, without_weights
from hfx_transfer.sglang.weights import start_clones

from hfx_sgl.errors import LaunchError
from hfx_sgl.launch.cluster import Cluster
from hfx_sgl.launch.devices import Device
from hfx_sgl.launch.plan import ClusterPlan, InstancePlan, plan_server
from hfx_sgl.launch.spec import ClusterSpec
from hfx_sgl.launch.weights import GiveUp
from hfx_sgl.types import Role

_LOADED = re.compile(r"Load weight end\. elapsed=([\d.]+) s")


class Way(StrEnum):
    """Where the weights come from."""

    COLD = "disk cold"
    WARM = "disk warm"
    PEER = "peer"
    PEER_OF_PEER = "peer of peer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """One start of one server."""

    way: Way
    serves_s: float
    """From the fork to the first answer of /health, to within 0.2 s."""
    loads_s: float
    """What SGLang says that its weights took, to within 0.01 s."""
    checks_s: float
    """Choosing the source before and comparing the weights after; 0 from disk."""


@dataclass(slots=True)
class Timed:
    """A starter that takes the time of what the cluster does."""

    cluster: Cluster
    serves_s: list[float] = field(default_factory=list)

    def try_add(
        self, *plans: InstancePlan, timeout_s: float | None = None, give_up: GiveUp | None = None
    ) -> dict[str, str]:
        started_at_s = time.perf_counter()
        failed = self.cluster.try_add(*plans, timeout_s=timeout_s, give_up=give_up)
        self.serves_s.append(time.perf_counter() - started_at_s)
        return failed

    def stop(self, name: str) -> None:
        self.cluster.stop(name)

    def note(self, text: str) -> None:
        """Say nothing: what goes wrong ends the run."""


@dataclass(slots=True)
class Bench:
    """The servers of one model."""

    cluster: Cluster
    model: Path
    weightless: Path
    python: str
    base_port: int
    log_dir: Path
    num_planned: int = 0

    def plan(self, model_path: Path) -> InstancePlan:
        spec = ClusterSpec(
            model_path=str(model_path),
            served_model_name=self.model.name,
            sglang_python=self.python,
            base_port=self.base_port,
            log_dir=str(self.log_dir),
            seed_weights=True,
        )
        ordinal = self.num_planned
        self.num_planned += 1
        # Two slots stay taken by those that are copied; the rest of the servers come and go.
        return plan_server(spec, Role.REGULAR, ordinal=ordinal, slot=min(ordinal, 2))

    def measure(self, way: Way, source: InstancePlan | None) -> tuple[Start, InstancePlan]:
        """Start one server, which stays."""
        plan = self.plan(self.model if source is None else self.weightless)
        timed = Timed(self.cluster)
        if way is Way.COLD:
            forget(self.model)
        started_at_s = time.perf_counter()
        if source is None:
            failed = timed.try_add(plan)
            if failed:
                raise LaunchError(f"{plan.name} {failed[plan.name]}, see {plan.log_path}")
        else:
            (outcome,) = start_clones(timed, [plan], [source.url])
            if outcome.source_url != source.url:
                raise LaunchError(f"{plan.name} did not come from {source.url}: {outcome.reasons}")
        took_s = time.perf_counter() - started_at_s
        (serves_s,) = timed.serves_s
        checks_s = 0.0 if source is None else took_s - serves_s
        loaded = _LOADED.search(Path(plan.log_path).read_text(errors="replace"))
        if loaded is None:
            raise LaunchError(f"{plan.log_path} does not say how long the weights took")
        start = Start(way=way, serves_s=serves_s, loads_s=float(loaded[1]), checks_s=checks_s)
        return start, plan


def measure_model(
    model: Path, *, python: str, base_port: int, num_rounds: int, say: Callable[[str], None]
) -> tuple[int, list[Start]]:
    """Return the size of a model's weights and what every start took, each way once a round."""
    folder = Path(tempfile.mkdtemp(prefix="hfx-clone-"))
    try:
        starts = list(_starts(model, folder, python, base_port, num_rounds, say))
    finally:
        shutil.rmtree(folder)
    return weights_bytes(model), starts


def _starts(
    model: Path,
    folder: Path,
    python: str,
    base_port: int,
    num_rounds: int,
    say: Callable[[str], None],
) -> Iterator[Start]:
    weightless = without_weights(model, folder / "weightless")
    spec = ClusterSpec(
        model_path=str(model),
        num_prefill=0,
        num_decode=0,
        num_regular=1,
        sglang_python=python,
        base_port=base_port,
        log_dir=str(folder),
    )
    warm_up = plan_server(spec, Role.REGULAR, ordinal=0, slot=0)
    # The first server of a fork server pays for what is imported late; it is not counted.
    with Cluster(ClusterPlan(device=Device.CPU, servers=(warm_up,), router=None)) as cluster:
        cluster.kill(warm_up.name)
        bench = Bench(cluster, model, weightless, python, base_port, folder, num_planned=0)
        _, seed = bench.measure(Way.WARM, None)
        _, clone = bench.measure(Way.PEER, seed)
        for number in range(num_rounds):
            sources = ((Way.COLD, None), (Way.WARM, None), (Way.PEER, seed))
            for way, source in (*sources, (Way.PEER_OF_PEER, clone)):
                start, plan = bench.measure(way, source)
                say(f"{model.name}, round {number + 1}, {way}: serves after {start.serves_s:.2f} s")
                cluster.kill(plan.name)
                yield start
