"""What a synthetic task class is made of."""

from dataclasses import dataclass

from hfx_sgl.slo import Slo
from hfx_sgl.workload.limits import OutputLimit
from hfx_sgl.workload.synthetic.arrivals import Diurnal, FlashCrowd, Process
from hfx_sgl.workload.synthetic.distributions import Distribution


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrivals:
    """How the requests, or with sessions their first turns, arrive."""

    process: Process = Process.POISSON
    cv: float = 1.0
    """Coefficient of variation of the gaps, of a gamma process."""
    diurnal: Diurnal | None = None
    flash_crowd: FlashCrowd | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Documents:
    """A set of documents that requests are about, so that several have the same one."""

    count: int
    tokens: Distribution
    skew: float = 0.0
    """Exponent of a Zipf law for how often each is asked about; 0 treats all alike."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sessions:
    """Turns that each repeat what was said before them."""

    turns: Distribution
    opening_tokens: Distribution
    """What a session has in front of its first turn, besides the system prompt of the class."""
    turn_gap_s: Distribution
    """From the arrival of one turn to that of the next: the answer, then the user or the tool."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskClass:
    """One class of synthetic requests."""

    key: str
    """Names its random streams and prefixes its request ids; unique within a workload."""
    name: str
    rate_per_s: float
    prompt_tokens: Distribution
    """What a request (a turn) says itself, behind everything that it shares with others."""
    output_tokens: Distribution
    arrivals: Arrivals
    output_limit: OutputLimit
    slo: Slo
    priority: int | None = None
    system_prompt_tokens: int = 0
    """A prefix that all requests of the class have in common; 0 for none."""
    documents: Documents | None = None
    sessions: Sessions | None = None
    max_prompt_tokens: int
    """No prompt is longer. A session ends before a turn that would be."""
