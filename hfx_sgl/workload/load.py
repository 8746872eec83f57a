"""Turns the YAML of a workload into a workload. Shipped ones are in `mixes/`, by name."""

from difflib import get_close_matches
from pathlib import Path

from hfx_sgl.errors import ConfigError
from hfx_sgl.slo import Slo
from hfx_sgl.workload.config import (
    ArrivalsConfig,
    ClassConfig,
    DocumentsConfig,
    SessionsConfig,
    SourceConfig,
    TraceConfig,
    WorkloadConfig,
)
from hfx_sgl.workload.distribution_config import build
from hfx_sgl.workload.slo_set import SloSet, load_slo_set
from hfx_sgl.workload.synthetic.arrivals import Diurnal, FlashCrowd
from hfx_sgl.workload.synthetic.task_class import Arrivals, Documents, Sessions, TaskClass
from hfx_sgl.workload.traces.formats import ReadOptions
from hfx_sgl.workload.traces.replay import Replay, open_trace
from hfx_sgl.workload.workload import Source, SyntheticSource, Workload
from hfx_sgl.yaml_file import read_yaml

_SHIPPED = Path(__file__).parent / "mixes"
DEFAULT_WORKLOAD = "mixed"
NO_SLO = "none"
"""The SLO set that promises nothing."""


def workload_names() -> tuple[str, ...]:
    """Return the names of the workloads that ship with the package."""
    return tuple(sorted(path.stem for path in _SHIPPED.glob("*.yaml")))


def load_workload(name_or_path: str | Path, slo_set: str | None = None) -> Workload:
    """Return a shipped workload by name, or the one that a YAML file describes.

    Args:
        slo_set: name or path of the SLO set; None takes the workload's own, `none` has no SLO.

    Raises:
        ConfigError: no such workload, or it or a trace that it names is bad.
    """
    config, path = read_workload(name_or_path)
    return make_workload(config, name=path.stem, folder=path.parent, slo_set=slo_set)


def read_workload(name_or_path: str | Path) -> tuple[WorkloadConfig, Path]:
    """Return what a workload's file says, and where the file is.

    Raises:
        ConfigError: no such workload, or its file is bad.
    """
    path = _path_of(str(name_or_path))
    return read_yaml(path, WorkloadConfig), path


def make_workload(
    config: WorkloadConfig, *, name: str, folder: Path, slo_set: str | None = None
) -> Workload:
    """Return the workload of a config; trace paths are relative to `folder`.

    Raises:
        ConfigError: there is no such SLO set, it lacks a class, or a trace is bad.
    """
    promised = slo_set or config.slo_set or NO_SLO
    slos = None if promised == NO_SLO else load_slo_set(promised)
    keys: dict[str, int] = {}
    sources: list[Source] = []
    for source in config.sources:
        keys[source.name] = keys.get(source.name, 0) + 1
        key = source.name if keys[source.name] == 1 else f"{source.name}.{keys[source.name]}"
        slo = _slo_of(source, slos)
        if isinstance(source, TraceConfig):
            sources.append(open_trace(_replay(source, key, slo, config, folder)))
        else:
            sources.append(SyntheticSource(_task_class(source, key, slo, config)))
    return Workload(
        name=name,
        description=config.description.strip(),
        sources=tuple(sources),
        slo_set=promised,
    )


def _path_of(name: str) -> Path:
    if name.endswith((".yaml", ".yml")) or "/" in name:
        return Path(name)
    names = workload_names()
    if name not in names:
        close = get_close_matches(name, names, n=1)
        hint = f", did you mean {close[0]}?" if close else f" (there are {', '.join(names)})"
        raise ConfigError(f"workload: there is no {name!r}{hint}")
    return _SHIPPED / f"{name}.yaml"


def _slo_of(source: SourceConfig, slos: SloSet | None) -> Slo:
    return Slo() if slos is None else slos.of(source.slo or source.name)


def _rate_of(source: SourceConfig, config: WorkloadConfig) -> float | None:
    """Return the rate that a source is asked for; None leaves it to the trace."""
    if source.share is not None and config.rate_per_s is not None:
        return source.share * config.rate_per_s
    return source.rate_per_s


def _task_class(source: ClassConfig, key: str, slo: Slo, config: WorkloadConfig) -> TaskClass:
    rate_per_s = _rate_of(source, config)
    assert rate_per_s is not None  # ClassConfig refuses a class without one
    return TaskClass(
        key=key,
        name=source.name,
        rate_per_s=rate_per_s,
        prompt_tokens=build(source.prompt_tokens),
        output_tokens=build(source.output_tokens),
        arrivals=_arrivals(source.arrivals),
        output_limit=source.max_tokens.build(),
        slo=slo,
        priority=source.priority,
        system_prompt_tokens=source.system_prompt_tokens,
        documents=_documents(source.documents),
        sessions=_sessions(source.sessions),
        max_prompt_tokens=config.max_prompt_tokens,
    )


def _replay(
    source: TraceConfig, key: str, slo: Slo, config: WorkloadConfig, folder: Path
) -> Replay:
    return Replay(
        key=key,
        class_name=source.name,
        path=folder / source.trace,
        form=source.format,
        options=ReadOptions(block_tokens=source.block_tokens),
        slo=slo,
        priority=source.priority,
        output_limit=source.max_tokens.build(),
        rate_per_s=_rate_of(source, config),
        time_scale=source.time_scale,
        offset_s=source.offset_s,
        max_prompt_tokens=config.max_prompt_tokens,
        clip_prompts=source.clip_prompts,
    )


def _arrivals(config: ArrivalsConfig) -> Arrivals:
    """Return the arrivals that a config describes."""
    return Arrivals(
        process=config.process,
        cv=1.0 if config.cv is None else config.cv,
        diurnal=None if config.diurnal is None else Diurnal(**config.diurnal.model_dump()),
        flash_crowd=(
            None if config.flash_crowd is None else FlashCrowd(**config.flash_crowd.model_dump())
        ),
    )


def _documents(config: DocumentsConfig | None) -> Documents | None:
    if config is None:
        return None
    return Documents(count=config.count, tokens=build(config.tokens), skew=config.skew)


def _sessions(config: SessionsConfig | None) -> Sessions | None:
    if config is None:
        return None
    return Sessions(
        turns=build(config.turns),
        opening_tokens=build(config.opening_tokens),
        turn_gap_s=build(config.turn_gap_s),
    )
