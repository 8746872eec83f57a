"""The YAML form of a workload. Durations in seconds, lengths in tokens."""

from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from hfx_sgl.workload.distribution_config import DistributionConfig
from hfx_sgl.workload.limits import OutputLimit
from hfx_sgl.workload.synthetic.arrivals import Process
from hfx_sgl.workload.traces.formats import TraceFormat
from hfx_sgl.yaml_file import StrictModel

Positive = Annotated[float, Field(gt=0)]
PositiveInt = Annotated[int, Field(gt=0)]
ClassName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")]


class OutputLimitConfig(StrictModel):
    """How clients set `max_tokens`; the larger of the two, and never below the true length."""

    bound_tokens: PositiveInt = 1
    multiple: Annotated[float, Field(ge=1)] = 1.0

    def build(self) -> OutputLimit:
        """Return the rule."""
        return OutputLimit(bound_tokens=self.bound_tokens, multiple=self.multiple)


class DiurnalConfig(StrictModel):
    """The rate follows a sine."""

    period_s: Positive
    amplitude_ratio: Annotated[float, Field(gt=0, le=1)]
    phase_ratio: Annotated[float, Field(ge=0, le=1)] = 0.0


class FlashCrowdConfig(StrictModel):
    """The rate is multiplied for a while."""

    start_s: Annotated[float, Field(ge=0)]
    duration_s: Positive
    factor: Annotated[float, Field(ge=0)]


class ArrivalsConfig(StrictModel):
    """When requests, or sessions, arrive."""

    process: Process = Process.POISSON
    cv: Annotated[float, Field(gt=0, le=20)] | None = None
    diurnal: DiurnalConfig | None = None
    flash_crowd: FlashCrowdConfig | None = None

    @model_validator(mode="after")
    def _check(self) -> "ArrivalsConfig":
        if (self.process is Process.GAMMA) != (self.cv is not None):
            raise ValueError("cv belongs to process gamma, which needs it")
        return self


class DocumentsConfig(StrictModel):
    """Documents that several requests are about."""

    count: Annotated[int, Field(ge=1, le=1_000_000)]
    tokens: DistributionConfig
    skew: Annotated[float, Field(ge=0)] = 0.0


class SessionsConfig(StrictModel):
    """Turns that grow on what was said before."""

    turns: DistributionConfig
    opening_tokens: DistributionConfig
    turn_gap_s: DistributionConfig


class SourceConfig(StrictModel):
    """What synthetic classes and traces have in common."""

    name: Annotated[ClassName, Field(alias="class")]
    slo: str | None = None
    """Entry of the SLO set; None takes the one named like the class."""
    priority: int | None = None
    share: Annotated[float, Field(gt=0, le=1)] | None = None
    """Of the workload's `rate_per_s`."""
    rate_per_s: Positive | None = None
    max_tokens: OutputLimitConfig = OutputLimitConfig(bound_tokens=1024)

    @model_validator(mode="after")
    def _check_rate(self) -> "SourceConfig":
        if self.share is not None and self.rate_per_s is not None:
            raise ValueError("give share or rate_per_s, not both")
        return self


class ClassConfig(SourceConfig):
    """A synthetic task class."""

    prompt_tokens: DistributionConfig
    output_tokens: DistributionConfig
    arrivals: ArrivalsConfig = ArrivalsConfig()
    system_prompt_tokens: Annotated[int, Field(ge=0)] = 0
    documents: DocumentsConfig | None = None
    sessions: SessionsConfig | None = None

    @model_validator(mode="after")
    def _check(self) -> "ClassConfig":
        if self.share is None and self.rate_per_s is None:
            raise ValueError("needs share or rate_per_s")
        if self.documents is not None and self.sessions is not None:
            raise ValueError("documents and sessions exclude each other")
        return self

    def longest_prompt(self) -> float:
        """Return the length of the longest first (or only) prompt that can be drawn."""
        shared = [
            self.documents.tokens.build().high if self.documents else 0,
            self.sessions.opening_tokens.build().high if self.sessions else 0,
        ]
        return self.system_prompt_tokens + max(shared) + self.prompt_tokens.build().high


class TraceConfig(SourceConfig):
    """Recorded requests, replayed."""

    trace: str
    """Path of the file, relative to the file that names it."""
    format: TraceFormat = TraceFormat.AUTO
    time_scale: Positive = 1.0
    """Stretches the gaps; 0.5 replays twice as fast."""
    offset_s: Annotated[float, Field(ge=0)] = 0.0
    """When the first request of the trace arrives in the run."""
    block_tokens: PositiveInt = 512
    """Tokens that one entry of `hash_ids` stands for."""
    clip_prompts: bool = False
    """Cut prompts beyond `max_prompt_tokens` at their end; otherwise they are refused."""

    @model_validator(mode="after")
    def _check(self) -> "TraceConfig":
        has_rate = self.share is not None or self.rate_per_s is not None
        if has_rate and self.time_scale != 1:
            raise ValueError("time_scale follows from share or rate_per_s; give one of them")
        return self


_CLASS_TAG, _TRACE_TAG = "synthetic source", "recorded source"
"""Pydantic puts them into the locations of errors; no key of a file may be spelled like them."""


def _kind_of_source(value: Any) -> str:
    is_trace = "trace" in value if isinstance(value, dict) else hasattr(value, "trace")
    return _TRACE_TAG if is_trace else _CLASS_TAG


Source = Annotated[
    Annotated[ClassConfig, Tag(_CLASS_TAG)] | Annotated[TraceConfig, Tag(_TRACE_TAG)],
    Discriminator(_kind_of_source),
]


class WorkloadConfig(StrictModel):
    """A workload: what it consists of."""

    description: str = ""
    slo_set: str | None = None
    """Name or path of the SLO set; None promises nothing."""
    rate_per_s: Positive | None = None
    """Requests per second that the sources' shares divide, at load factor 1."""
    max_prompt_tokens: PositiveInt = 32_768
    sources: tuple[Source, ...]

    @field_validator("sources")
    @classmethod
    def _check_shares(cls, sources: tuple[Source, ...]) -> tuple[Source, ...]:
        if not sources:
            raise ValueError("there must be at least one")
        shares = [source.share for source in sources if source.share is not None]
        if shares and abs(sum(shares) - 1) > 1e-6:
            raise ValueError(f"the shares must add up to 1 ({sum(shares):g})")
        return sources

    @model_validator(mode="after")
    def _check(self) -> "WorkloadConfig":
        if self.rate_per_s is None and any(source.share is not None for source in self.sources):
            raise ValueError("rate_per_s is missing, which the sources have shares of")
        for source in self.sources:
            if isinstance(source, ClassConfig) and source.longest_prompt() > self.max_prompt_tokens:
                raise ValueError(
                    f"class {source.name}: prompts of up to {source.longest_prompt():.0f} tokens "
                    f"exceed max_prompt_tokens ({self.max_prompt_tokens})"
                )
        return self
