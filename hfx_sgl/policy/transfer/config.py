"""Settings of source choice and of distribution plans."""

from dataclasses import dataclass

from hfx_sgl.policy.bounds import at_least, check, more_than

MIB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceConfig:
    """What a pull from one source is expected to cost, against a pull from another.

    The rates only order the candidates: whoever has measured them sets them.
    """

    same_host_bytes_per_s: float = 4e9
    """Through memory of one host: one core reads and digests about that much."""
    same_rack_bytes_per_s: float = 1.25e9
    """10 Gbit/s, the slowest network that hosts of inference engines commonly have."""
    elsewhere_bytes_per_s: float = 0.625e9
    """Half of that: links between racks are commonly shared two to one."""
    half_load_tokens: float = 100_000.0
    """Tokens in running requests at which a source counts as half loaded: about half of the KV that
    an 8B model has room for on an 80 GB device."""
    request_tokens: float = 500.0
    """What a running request counts for on top of its tokens: it takes part in every step, however
    short it is."""
    load_weight: float = 1.0
    """A source that is loaded to the full counts as this many times slower on top: what it sends
    delays what it serves."""
    prefill_penalty_ratio: float = 0.5
    """Added to a prefill worker's cost: its uplink carries the KV of each prompt it has computed,
    where a decode worker's is idle."""

    def __post_init__(self) -> None:
        check(
            more_than("same_host_bytes_per_s", self.same_host_bytes_per_s, 0),
            more_than("same_rack_bytes_per_s", self.same_rack_bytes_per_s, 0),
            more_than("elsewhere_bytes_per_s", self.elsewhere_bytes_per_s, 0),
            more_than("half_load_tokens", self.half_load_tokens, 0),
            at_least("request_tokens", self.request_tokens, 0),
            at_least("load_weight", self.load_weight, 0),
            at_least("prefill_penalty_ratio", self.prefill_penalty_ratio, 0),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanConfig:
    """How chunks travel, and how long to look for the best way."""

    chunk_bytes: int = 8 * MIB
    """What a receiver passes on at once. Smaller chunks make long chains cheaper, until the cost of
    each transfer shows: tens of microseconds, which are below one part in a hundred of what 8 MiB
    take on a 10 Gbit/s link."""
    hop_latency_s: float = 0.002
    """How much later than it could a receiver begins with a chunk that its parent has: it polls."""
    tie_ratio: float = 0.01
    """Of plans whose last receiver is done at most this share later than in the best one, that with
    the lowest mean is taken: no forecast is more exact than this, and a slow receiver should not
    keep others late."""
    max_exact_trees: int = 2_000
    """Where there are no more ways than this, each is tried: up to four receivers of one source, in
    some hundredths of a second."""
    max_trials: int = 4_000
    """How many variations of the best way are tried where there are more: below a second for 64
    receivers."""

    def __post_init__(self) -> None:
        check(
            at_least("chunk_bytes", self.chunk_bytes, 1),
            at_least("hop_latency_s", self.hop_latency_s, 0),
            at_least("tie_ratio", self.tie_ratio, 0),
            at_least("max_exact_trees", self.max_exact_trees, 1),
            at_least("max_trials", self.max_trials, 0),
        )
