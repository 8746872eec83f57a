"""A simulation with its workload, run into a folder. Can be sent to another process."""

import math
from dataclasses import asdict, dataclass
from pathlib import Path

from hfx_sgl.engine.profile import EngineProfile, load_profile
from hfx_sgl.errors import ConfigError
from hfx_sgl.results.reader import read_records
from hfx_sgl.results.run import RunInfo
from hfx_sgl.results.summarise import summarise
from hfx_sgl.results.summary import Summary
from hfx_sgl.results.version import package_version
from hfx_sgl.results.writer import RunWriter
from hfx_sgl.sim.routing import check_policies
from hfx_sgl.sim.run import SimTotals, fitting, load_worker_profiles, simulate_into
from hfx_sgl.sim.simulation import Progress
from hfx_sgl.sim.slo_router import POLICY_NAME
from hfx_sgl.sim.spec import SimSpec
from hfx_sgl.workload.arguments import PlannedLoad

Setting = str | int | float | bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SimJob:
    """One run."""

    spec: SimSpec
    load: PlannedLoad
    slo_set: str | None = None
    """What the promises of `load` are called, if not by the workload's own name for them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobResult:
    """What a run came to."""

    info: RunInfo
    summary: Summary
    totals: SimTotals


def run_job(
    job: SimJob, folder: Path, *, progress: Progress = lambda num_ended, now_s: None
) -> JobResult:
    """Run a simulation and leave a complete run in `folder`.

    Raises:
        ConfigError: something of the job cannot be used, or the folder holds a run already.
    """
    profile = load_profile(job.spec.profile)
    _check(job, profile)
    with RunWriter(folder) as writer:
        totals = simulate_into(
            writer, job.spec, job.load.requests, profile=profile, progress=progress
        )
        writer.close()
        summary = summarise(read_records(folder))
        info = _info(job, profile, totals)
        writer.finish(info, summary)
    return JobResult(info=info, summary=summary, totals=totals)


def _check(job: SimJob, profile: EngineProfile) -> None:
    """Find what is wrong with a job before anything is run or written.

    Planning a request takes a tenth of the time that simulating it takes.
    """
    check_policies(job.spec)
    profiles = [profile, *load_worker_profiles(job.spec)]
    if not sum(1 for _ in fitting(job.load.requests, job.spec, profiles)):
        raise ConfigError(f"workload: {job.load.workload.name} has no request in the given time")


def _info(job: SimJob, profile: EngineProfile, totals: SimTotals) -> RunInfo:
    spec, load = job.spec, job.load
    return RunInfo(
        tool="sim",
        policy=spec.policy_label,
        cluster=spec.shape,
        profile=profile.name,
        workload=load.workload.name,
        load_factor=load.load_factor,
        seed=load.seed,
        duration_s=totals.duration_s if math.isinf(load.duration_s) else load.duration_s,
        version=package_version(),
        problems=totals.problems,
        settings=_settings(job),
    )


def _settings(job: SimJob) -> dict[str, Setting]:
    """Return everything that can change the result and has no field of its own."""
    spec = job.spec
    settings: dict[str, Setting] = {
        "slo_set": job.slo_set,
        "policy_seed": spec.seed,
        "num_requests": job.load.num_requests,
        "network_s": spec.network_s,
        "handshake_s": spec.handshake_s,
        "max_drain_s": spec.max_drain_s,
    }
    settings |= asdict(spec.selection)
    if spec.worker_profiles:
        settings["worker_profiles"] = " ".join(spec.worker_profiles)
    if spec.time_scales:
        settings["time_scales"] = " ".join(f"{scale:g}" for scale in spec.time_scales)
    if spec.policy == POLICY_NAME:
        settings |= _scheduler_settings(spec)
    for name, value in spec.engine.items():
        settings[name] = _plain(value)
    return settings


def _scheduler_settings(spec: SimSpec) -> dict[str, Setting]:
    knowledge = asdict(spec.knowledge) | {"saved_models": spec.knowledge.saved_models is not None}
    config = {f"scheduler_{name}": value for name, value in asdict(spec.scheduler).items()}
    return {name: _plain(value) for name, value in (knowledge | config).items()}


def _plain(value: object) -> Setting:
    """Return a value as JSON can hold it."""
    if isinstance(value, Setting) and value not in (math.inf, -math.inf):
        return value
    return str(value)
