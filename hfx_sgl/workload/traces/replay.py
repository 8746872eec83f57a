"""A trace as a source of requests: checked, time-scaled, with prompts made of segments."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

from hfx_sgl.errors import ConfigError
from hfx_sgl.slo import Slo
from hfx_sgl.workload.limits import OutputLimit
from hfx_sgl.workload.planned import PlannedRequest
from hfx_sgl.workload.synthetic.arrivals import Intensity, Process, arrival_times
from hfx_sgl.workload.traces.formats import ReadOptions, TraceFormat
from hfx_sgl.workload.traces.prompts import PromptMaker, cut
from hfx_sgl.workload.traces.reader import read_trace
from hfx_sgl.yaml_file import first_problems


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """What to do with a trace."""

    key: str
    """Prefixes the request ids; unique within a workload."""
    class_name: str
    path: Path
    form: TraceFormat
    options: ReadOptions
    slo: Slo
    priority: int | None
    output_limit: OutputLimit
    rate_per_s: float | None
    """Mean rate to bring the trace to; None keeps its own, but for `time_scale`."""
    time_scale: float
    offset_s: float
    """When the first request arrives in the run."""
    max_prompt_tokens: int
    clip_prompts: bool
    """Cut longer prompts at their end; otherwise they are refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceSource:
    """A trace that was read once and found to be good. Every plan reads it again."""

    replay: Replay
    rate_per_s: float
    first_at_s: float | None
    """On the trace's own clock; None when it has no times, and arrivals are Poisson."""
    time_scale: float
    is_endless: bool = False

    @property
    def class_name(self) -> str:
        """The class that all requests of the trace belong to."""
        return self.replay.class_name

    @property
    def slo(self) -> Slo:
        """What they are promised."""
        return self.replay.slo

    def requests(self, *, seed: int, load_factor: float) -> Iterator[PlannedRequest]:
        """Yield the trace's requests. A load factor compresses time.

        Raises:
            ConfigError: the file has changed since it was opened, and is bad.
        """
        replay = self.replay
        prompts = PromptMaker(f"{seed}/{replay.key}")
        rows = read_trace(replay.path, replay.form, replay.options)
        poisson = self._poisson_times(seed, load_factor)
        for number, row in enumerate(rows):
            if row.at_s is None or self.first_at_s is None:
                at_s = next(poisson)
            else:
                at_s = (row.at_s - self.first_at_s) * self.time_scale / load_factor
            yield PlannedRequest(
                request_id=f"{replay.key}-{number}",
                class_name=replay.class_name,
                at_s=replay.offset_s + at_s,
                prompt=cut(prompts.make(row), replay.max_prompt_tokens),
                num_output_tokens=row.num_output_tokens,
                max_output_tokens=replay.output_limit.of(row.num_output_tokens),
                slo=replay.slo,
                priority=replay.priority,
                routing_key=None if row.session is None else f"{replay.key}-{row.session}",
            )

    def _poisson_times(self, seed: int, load_factor: float) -> Iterator[float]:
        rng = Random(f"{seed}/{self.replay.key}/arrivals")
        intensity = Intensity(mean_per_s=self.rate_per_s * load_factor)
        return arrival_times(rng, Process.POISSON, 1.0, intensity)


def open_trace(replay: Replay) -> TraceSource:
    """Read a trace to its end and return it as a source.

    Raises:
        ConfigError: the trace is bad, has prompts that are too long, or has no times where no
            rate is asked for; one line for each problem.
    """
    num_rows, first_at_s, last_at_s = _survey(replay)
    if first_at_s is None:
        if replay.rate_per_s is None:
            raise ConfigError(f"{replay.path}: has no timestamps: give it a share or rate_per_s")
        return TraceSource(
            replay=replay, rate_per_s=replay.rate_per_s, first_at_s=None, time_scale=1.0
        )
    own_rate_per_s = math.inf
    if last_at_s > first_at_s:
        own_rate_per_s = num_rows / (last_at_s - first_at_s)
    elif replay.rate_per_s is not None:
        raise ConfigError(f"{replay.path}: spans no time, so that it cannot have a rate")
    time_scale = replay.time_scale
    if replay.rate_per_s is not None:
        time_scale = own_rate_per_s / replay.rate_per_s
    return TraceSource(
        replay=replay,
        rate_per_s=own_rate_per_s / time_scale,
        first_at_s=first_at_s,
        time_scale=time_scale,
    )


def _survey(replay: Replay) -> tuple[int, float | None, float]:
    """Return how many rows there are, and the first and the last instant."""
    prompts = PromptMaker(replay.key)
    first_at_s: float | None = None
    num_rows, last_at_s = 0, 0.0
    too_long: list[str] = []
    for row in read_trace(replay.path, replay.form, replay.options):
        num_rows += 1
        if row.at_s is not None:
            first_at_s = row.at_s if first_at_s is None else first_at_s
            last_at_s = row.at_s
        num_tokens = prompts.make(row).num_tokens
        if num_tokens > replay.max_prompt_tokens and not replay.clip_prompts:
            too_long.append(
                f"{replay.path}:{row.line}: prompt of {num_tokens} tokens exceeds "
                f"max_prompt_tokens ({replay.max_prompt_tokens}); clip_prompts cuts such prompts"
            )
    if too_long:
        raise ConfigError(*first_problems(too_long))
    return num_rows, first_at_s, last_at_s
