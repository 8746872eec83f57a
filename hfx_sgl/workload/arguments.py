"""Command-line flags that choose a workload, shared by everything that runs one."""

import argparse
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from hfx_sgl.errors import ConfigError
from hfx_sgl.workload.config import TraceConfig, WorkloadConfig
from hfx_sgl.workload.load import (
    DEFAULT_WORKLOAD,
    NO_SLO,
    make_workload,
    read_workload,
    workload_names,
)
from hfx_sgl.workload.planned import PlannedRequest
from hfx_sgl.workload.slo_set import slo_set_names
from hfx_sgl.workload.traces.formats import TraceFormat
from hfx_sgl.workload.workload import Workload

DEFAULT_DURATION_S = 300.0
"""How long a workload without an end runs when nothing else is said."""
DEFAULT_CLASS = "chat"
"""The class of a trace that is given without one."""
DEFAULT_SLO_SET = "mixed"
"""The SLO set of traces that are given without a workload."""
_TRACE = re.compile(r"(?P<format>[a-z]+):(?P<path>.+?)(:(?P<class>[A-Za-z0-9_-]+))?")


def add_workload_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the workload, in a group of their own."""
    group = parser.add_argument_group("workload")
    group.add_argument(
        "--workload",
        metavar="NAME|PATH",
        help=f"what to ask: {', '.join(workload_names())}, or a YAML file "
        f"({DEFAULT_WORKLOAD}; none with --trace)",
    )
    group.add_argument(
        "--trace",
        action="append",
        default=[],
        metavar="FORMAT:PATH:CLASS",
        help=f"replay a trace as requests of a class ({DEFAULT_CLASS} without :CLASS), beside "
        f"--workload if that is given; repeatable; formats: {', '.join(TraceFormat)}",
    )
    group.add_argument(
        "--slo-set",
        metavar="NAME|PATH",
        help=f"what is promised: {', '.join(slo_set_names())}, a YAML file, or {NO_SLO} "
        "(the workload's own)",
    )
    _add_plan_flags(group)
    _add_trace_flags(group)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedLoad:
    """A workload, and how much of it is asked for."""

    workload: Workload
    seed: int
    load_factor: float
    duration_s: float
    """For how long requests arrive; `math.inf` where something else ends it."""
    num_requests: int | None

    @property
    def requests(self) -> Iterator[PlannedRequest]:
        """The requests in order of arrival, from the first one each time."""
        return self.workload.plan(
            seed=self.seed,
            duration_s=self.duration_s,
            load_factor=self.load_factor,
            num_requests=self.num_requests,
        )


def workload_from_args(args: argparse.Namespace) -> PlannedLoad:
    """Return the load that the flags describe.

    Raises:
        ConfigError: a name, a file or a trace is bad; one line for each problem.
    """
    workload = _workload(args)
    is_bounded = args.num_requests is not None or not workload.is_endless
    default_s = math.inf if is_bounded else DEFAULT_DURATION_S
    return PlannedLoad(
        workload=workload,
        seed=args.seed,
        load_factor=args.load_factor,
        duration_s=default_s if args.duration_s is None else args.duration_s,
        num_requests=args.num_requests,
    )


def _workload(args: argparse.Namespace) -> Workload:
    traces = [_trace_config(text, args) for text in args.trace]
    if args.workload is None and traces:
        config = _config({"slo_set": DEFAULT_SLO_SET, "sources": traces}, args)
        name = "+".join(Path(trace.trace).stem for trace in traces)
        return make_workload(config, name=name, folder=Path(), slo_set=args.slo_set)
    config, path = read_workload(args.workload or DEFAULT_WORKLOAD)
    here = [
        trace.model_copy(update={"trace": str(Path(trace.trace).absolute())}) for trace in traces
    ]
    fields = {name: getattr(config, name) for name in WorkloadConfig.model_fields}
    config = _config({**fields, "sources": (*config.sources, *here)}, args)
    return make_workload(config, name=path.stem, folder=path.parent, slo_set=args.slo_set)


def _add_plan_flags(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--load-factor",
        type=_more_than_0(float),
        default=1.0,
        metavar="X",
        help="multiplies arrival rates (%(default)s)",
    )
    group.add_argument("--seed", type=int, default=0, help="of everything drawn (%(default)s)")
    group.add_argument(
        "--duration",
        dest="duration_s",
        type=_more_than_0(float),
        metavar="SECONDS",
        help=f"how long requests arrive ({DEFAULT_DURATION_S:g}; traces: to their end)",
    )
    group.add_argument(
        "--num-requests", type=_more_than_0(int), metavar="N", help="stop after so many requests"
    )


def _add_trace_flags(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--time-scale",
        type=_more_than_0(float),
        default=1.0,
        metavar="FACTOR",
        help="stretches the time of each --trace; 0.5 is twice as fast (%(default)s)",
    )
    group.add_argument(
        "--max-prompt-tokens",
        type=_more_than_0(int),
        metavar="N",
        help="longest prompt that may be asked (the workload's own, or 32768)",
    )
    group.add_argument(
        "--clip-prompts",
        action="store_true",
        help="cut longer prompts of each --trace at their end instead of refusing them",
    )


def _more_than_0(number: type[int] | type[float]) -> Callable[[str], int | float]:
    def parse(text: str) -> int | float:
        value = number(text)
        if not 0 < value < math.inf:
            raise ValueError
        return value

    parse.__name__ = f"{'whole ' if number is int else ''}number more than 0"
    return parse


def _trace_config(text: str, args: argparse.Namespace) -> TraceConfig:
    match = _TRACE.fullmatch(text)
    if match is None or match["format"] not in {*TraceFormat}:
        raise ConfigError(
            f"trace: must be FORMAT:PATH[:CLASS] with one of {', '.join(TraceFormat)} ({text!r})"
        )
    return TraceConfig.model_validate(
        {
            "class": match["class"] or DEFAULT_CLASS,
            "trace": match["path"],
            "format": match["format"],
            "time_scale": args.time_scale,
            "clip_prompts": args.clip_prompts,
        }
    )


def _config(fields: dict[str, object], args: argparse.Namespace) -> WorkloadConfig:
    if args.max_prompt_tokens is not None:
        fields = {**fields, "max_prompt_tokens": args.max_prompt_tokens}
    try:
        return WorkloadConfig.model_validate(fields)
    except ValidationError as exc:  # only the limit can be new to fields that were good
        raise ConfigError(
            *(
                f"max_prompt_tokens: {error['msg'].removeprefix('Value error, ')}"
                for error in exc.errors()
            )
        ) from exc
