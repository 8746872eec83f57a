"""What is measured: setups, phases, and which of them a run visits. No I/O."""

from dataclasses import dataclass

from bench.results import PhaseName, Settings, SetupName

REGULAR_SETUPS = (
    SetupName.DIRECT,
    SetupName.SGLANG_REGULAR,
    SetupName.HFX_REGULAR,
    SetupName.HFX_CACHE_AWARE,
    SetupName.HFX_SCHEDULED,
)
PD_SETUPS = (
    SetupName.DIRECT,
    SetupName.SGLANG_PD,
    SetupName.HFX_PD,
    SetupName.HFX_PD_SCHEDULED,
)
PLAIN_PHASES = (PhaseName.SATURATED, PhaseName.SINGLE)
STREAM_PHASES = (PhaseName.TTFT, PhaseName.STEADY, PhaseName.FLOOD)

SINGLE_SECONDS = 2.0
"""Enough for percentiles of thousands of requests; longer would only cost time."""

FLOOD_WARMUP_S = 2.5
"""At least this much: all streams start together, and the jam of that start has to be over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """How the load client is run."""

    name: PhaseName
    num_connections: int
    is_stream: bool
    num_tokens: int
    seconds: float
    warmup_s: float


def make_phase(name: PhaseName, settings: Settings) -> Phase:
    """Return the phase `name` under these settings."""
    num_connections, num_tokens, is_stream = {
        PhaseName.SATURATED: (settings.num_saturating_connections, 16, False),
        PhaseName.SINGLE: (1, 16, False),
        PhaseName.TTFT: (settings.num_ttft_streams, settings.num_ttft_tokens, True),
        PhaseName.STEADY: (settings.num_steady_streams, settings.num_stream_tokens, True),
        PhaseName.FLOOD: (settings.num_flood_streams, settings.num_stream_tokens, True),
    }[name]
    seconds, warmup_s = settings.seconds, settings.warmup_s
    if name is PhaseName.SINGLE:
        seconds = min(seconds, SINGLE_SECONDS)
    elif name is PhaseName.FLOOD:
        warmup_s = max(warmup_s, FLOOD_WARMUP_S)
    return Phase(
        name=name,
        num_connections=num_connections,
        is_stream=is_stream,
        num_tokens=num_tokens,
        seconds=seconds,
        warmup_s=warmup_s,
    )


def plan_round(settings: Settings, round_index: int) -> list[tuple[SetupName, Phase]]:
    """Return what one round measures, in order.

    Setups alternate within a phase, so that what is compared is close in time; odd rounds visit
    them in the opposite order, so that none always follows the same one.
    """
    setups, names = selected(settings.only)
    if round_index % 2:
        setups = tuple(reversed(setups))
    return [
        (setup, make_phase(name, settings))
        for name in names
        for setup in setups
        if not (setup is SetupName.HFX_CACHE_AWARE and name in STREAM_PHASES)
    ]


def selected(only: str | None) -> tuple[tuple[SetupName, ...], tuple[PhaseName, ...]]:
    """Return the setups and phases of a run restricted to `regular`, `pd`, `stream` or nothing."""
    if only == "regular":
        return REGULAR_SETUPS, PLAIN_PHASES
    if only == "pd":
        return PD_SETUPS, PLAIN_PHASES
    both = REGULAR_SETUPS + PD_SETUPS[1:]
    if only == "stream":
        return tuple(s for s in both if s is not SetupName.HFX_CACHE_AWARE), STREAM_PHASES
    return both, PLAIN_PHASES + STREAM_PHASES
