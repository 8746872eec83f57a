"""One trace on one cluster, and the runs of it that a bound is for."""

import dataclasses
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from clairvoyant.bound import Bound, upper_bound

from hfx_sgl.engine.profile import load_profile
from hfx_sgl.engine.spec import EngineSpec
from hfx_sgl.errors import ConfigError
from hfx_sgl.results.reader import Run, read_run
from hfx_sgl.results.run import INFO_FILE, RunInfo
from hfx_sgl.sim.run import fitting
from hfx_sgl.sim.spec import SimSpec
from hfx_sgl.workload.arguments import PlannedLoad
from hfx_sgl.workload.load import load_workload
from hfx_sgl.workload.planned import PlannedRequest

_SHAPE = re.compile(r"(?P<workers>\d+)|(?P<prefill>\d+)P\+(?P<decode>\d+)D")
_SPEC_SETTINGS = ("network_s", "handshake_s", "max_drain_s")
_UNEQUAL = {"worker_profiles", "time_scales"}
_ENGINE_SETTINGS = {field.name for field in dataclasses.fields(EngineSpec)} - {"role"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """What a bound depends on. Can be sent to another process."""

    spec: SimSpec
    load: PlannedLoad

    @property
    def label(self) -> str:
        """The point in a few words."""
        return f"{self.spec.shape} at {self.load.load_factor:g}x, seed {self.load.seed}"

    def requests(self) -> list[PlannedRequest]:
        """Return its trace.

        Raises:
            ConfigError: the engines cannot hold a request, or there is none.
        """
        profile = load_profile(self.spec.profile)
        requests = list(fitting(self.load.requests, self.spec, [profile]))
        if not requests:
            raise ConfigError("workload: has no request in the given time")
        return requests


@dataclass(frozen=True, slots=True, kw_only=True)
class PointRuns:
    """A point and the simulations of it."""

    point: Point
    runs: tuple[Run, ...]


def bound_of(point: Point, max_rounds: int) -> Bound:
    """Return the bound at a point; errors as of `Point.requests` and `upper_bound`."""
    profile = load_profile(point.spec.profile)
    return upper_bound(point.spec, point.requests(), profile, max_rounds=max_rounds)


def read_points(folders: Sequence[Path], workload: str | None) -> list[PointRuns]:
    """Return the points of all runs in and below `folders`, in order of cluster, load and seed.

    Args:
        workload: name or path of the workload, where a run's own name for it is not enough.

    Raises:
        ConfigError: no run, one that is no simulation, or one whose trace cannot be had again.
    """
    by_key: dict[tuple[object, ...], list[Run]] = {}
    for path in _run_folders(folders):
        run = read_run(path)
        if run.info.tool != "sim":
            raise ConfigError(f"{path}: is a run of {run.info.tool}; the bound is for simulations")
        if _UNEQUAL & run.info.settings.keys():
            raise ConfigError(f"{path}: its workers differ; the bound is for equal ones")
        by_key.setdefault(_key(run.info), []).append(run)
    points = [
        PointRuns(point=_point(runs[0].info, workload), runs=tuple(runs))
        for runs in by_key.values()
    ]
    for each in points:
        _check_trace(each)
    return sorted(
        points,
        key=lambda each: (each.point.spec.shape, each.point.load.load_factor, each.point.load.seed),
    )


def _run_folders(folders: Sequence[Path]) -> list[Path]:
    found = sorted({info.parent for folder in folders for info in folder.rglob(INFO_FILE)})
    if not found:
        raise ConfigError(f"{', '.join(map(str, folders))}: no finished run in or below")
    return found


def _key(info: RunInfo) -> tuple[object, ...]:
    """Return what two runs of the same point have in common."""
    settings = tuple(
        sorted(
            (name, value)
            for name, value in info.settings.items()
            if name in _ENGINE_SETTINGS
            or name in _SPEC_SETTINGS
            or name in ("slo_set", "num_requests")
        )
    )
    return (
        info.cluster, info.profile, info.workload, info.load_factor, info.seed, info.duration_s,
        settings,
    )  # fmt: skip


def _point(info: RunInfo, workload: str | None) -> Point:
    shape = _SHAPE.fullmatch(info.cluster)
    if shape is None:
        raise ConfigError(f"cluster: cannot be read ({info.cluster!r})")
    numbers = {name: int(number or 0) for name, number in shape.groupdict().items()}
    settings = info.settings
    slo_set = settings.get("slo_set")
    num_requests = settings.get("num_requests")
    return Point(
        spec=SimSpec(
            profile=info.profile,
            num_workers=numbers["workers"],
            num_prefill=numbers["prefill"],
            num_decode=numbers["decode"],
            network_s=_number(info, "network_s"),
            handshake_s=_number(info, "handshake_s"),
            max_drain_s=_number(info, "max_drain_s"),
            engine={name: settings[name] for name in settings if name in _ENGINE_SETTINGS},
        ),
        load=PlannedLoad(
            workload=load_workload(
                workload or info.workload, None if slo_set is None else str(slo_set)
            ),
            seed=info.seed,
            load_factor=info.load_factor,
            # Of a load that something else ended it is when the last request arrived.
            duration_s=math.nextafter(info.duration_s, math.inf),
            num_requests=None if num_requests is None else int(num_requests),
        ),
    )


def _number(info: RunInfo, name: str) -> float:
    value = info.settings.get(name)
    if not isinstance(value, int | float):
        raise ConfigError(f"{INFO_FILE}: settings.{name}: missing; not a run of this simulator")
    return float(value)


def _check_trace(each: PointRuns) -> None:
    """Refuse runs of other requests than those that the bound would be for."""
    wanted = [(r.request_id, r.at_s, r.prompt.num_tokens) for r in each.point.requests()]
    for run in each.runs:
        found = [(r.request_id, r.scheduled_at_s, r.prompt_tokens) for r in run.records()]
        if found != wanted:
            raise ConfigError(
                f"{run.path}: its requests are not those of workload "
                f"{each.point.load.workload.name} as planned here; --workload names another"
            )
