"""Gathers the records of one set of requests and says what they add up to."""

from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field

from hfx_sgl.results.latency import latency_stats
from hfx_sgl.results.record import RequestRecord, Status
from hfx_sgl.results.summary import ServingMetrics

_MS_PER_S = 1000.0
Bounds = tuple[float | None, float | None, float | None]
"""What was promised for TTFT, TPOT and E2E, in seconds; None where nothing was."""


def _durations() -> "array[float]":
    return array("d")


@dataclass(slots=True)
class Promise:
    """How often one bound was given and kept."""

    num_given: int = 0
    num_kept: int = 0

    @property
    def attainment(self) -> float:
        """Return the share that was kept; needs one that was given."""
        return self.num_kept / self.num_given


@dataclass(slots=True)
class Tally:
    """A running count over records. Durations are kept whole, eight bytes each."""

    num_by_status: dict[Status, int] = field(default_factory=lambda: dict.fromkeys(Status, 0))
    num_attained: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    ttfts_s: "array[float]" = field(default_factory=_durations)
    tpots_s: "array[float]" = field(default_factory=_durations)
    e2es_s: "array[float]" = field(default_factory=_durations)
    itls_s: "array[float]" = field(default_factory=_durations)
    promises: dict[str, Promise] = field(
        default_factory=lambda: {"ttft": Promise(), "tpot": Promise(), "e2el": Promise()}
    )
    bounds_seen: set[Bounds] = field(default_factory=set)
    last_end_s: float = 0.0
    """When the last answer ended, counted from the start of the run."""

    def add(self, record: RequestRecord) -> None:
        """Count one request."""
        self.num_by_status[record.status] += 1
        self.num_attained += record.is_attained
        self.last_end_s = max(self.last_end_s, record.sent_at_s + (record.e2e_s or 0.0))
        self._count_promises(record)
        if record.status is not Status.OK:
            return
        self.input_tokens += record.prompt_tokens
        self.output_tokens += record.output_tokens
        self.cached_tokens += record.cached_tokens
        if record.ttft_s is not None:
            self.ttfts_s.append(record.ttft_s)
        if record.tpot_s is not None:
            self.tpots_s.append(record.tpot_s)
        if record.e2e_s is not None:
            self.e2es_s.append(record.e2e_s)
        if record.itls_s is not None:
            self.itls_s.extend(record.itls_s)

    def _count_promises(self, record: RequestRecord) -> None:
        bounds = (record.ttft_slo_s, record.tpot_slo_s, record.e2e_slo_s)
        self.bounds_seen.add(bounds)
        # A single token has no time per token after the first: that promise counts as kept.
        tpot_s = 0.0 if record.tpot_s is None else record.tpot_s
        durations_s = (record.ttft_s, tpot_s, record.e2e_s)
        for promise, bound_s, value_s in zip(
            self.promises.values(), bounds, durations_s, strict=True
        ):
            if bound_s is not None:
                promise.num_given += 1
                is_kept = value_s is not None and value_s <= bound_s
                promise.num_kept += is_kept and record.status is Status.OK

    def merge(self, other: "Tally") -> None:
        """Count what `other` counted."""
        for status, num in other.num_by_status.items():
            self.num_by_status[status] += num
        self.num_attained += other.num_attained
        self.input_tokens += other.input_tokens
        self.output_tokens += other.output_tokens
        self.cached_tokens += other.cached_tokens
        self.ttfts_s.extend(other.ttfts_s)
        self.tpots_s.extend(other.tpots_s)
        self.e2es_s.extend(other.e2es_s)
        self.itls_s.extend(other.itls_s)
        self.bounds_seen |= other.bounds_seen
        self.last_end_s = max(self.last_end_s, other.last_end_s)
        for name, promise in other.promises.items():
            self.promises[name].num_given += promise.num_given
            self.promises[name].num_kept += promise.num_kept

    def metrics(self, duration_s: float) -> ServingMetrics:
        """Return the figures over `duration_s`, during which all of it happened."""
        num_requests = sum(self.num_by_status.values())
        completed = self.num_by_status[Status.OK]
        rates: dict[str, float] = {}
        if num_requests and duration_s > 0:
            total_tokens = self.input_tokens + self.output_tokens
            rates = {
                "request_throughput": completed / duration_s,
                "input_throughput": self.input_tokens / duration_s,
                "output_throughput": self.output_tokens / duration_s,
                "total_throughput": total_tokens / duration_s,
                "concurrency": sum(self.e2es_s) / duration_s,
                "request_goodput": self.num_attained / duration_s,
            }
        given = {name: each for name, each in self.promises.items() if each.num_given}
        return ServingMetrics(
            num_requests=num_requests,
            completed=completed,
            rejected=self.num_by_status[Status.REJECTED],
            failed=self.num_by_status[Status.FAILED],
            timed_out=self.num_by_status[Status.TIMED_OUT],
            duration=duration_s,
            total_input_tokens=self.input_tokens,
            total_output_tokens=self.output_tokens,
            num_cached_tokens=self.cached_tokens,
            slo_attainment=self.num_attained / num_requests if num_requests else None,
            slo_attainment_by_metric={n: each.attainment for n, each in given.items()} or None,
            goodput_slos_ms=self._common_bounds_ms(),
            **rates,
            **_latency_fields("ttft", self.ttfts_s),
            **_latency_fields("tpot", self.tpots_s),
            **_latency_fields("itl", self.itls_s),
            **_latency_fields("e2e_latency", self.e2es_s),
        )

    def _common_bounds_ms(self) -> dict[str, float] | None:
        if len(self.bounds_seen) != 1:
            return None
        (bounds,) = self.bounds_seen
        named = zip(self.promises, bounds, strict=True)
        return {name: bound * _MS_PER_S for name, bound in named if bound is not None} or None


def merged(tallies: Iterable[Tally]) -> Tally:
    """Return one tally of everything that `tallies` counted."""
    total = Tally()
    for tally in tallies:
        total.merge(tally)
    return total


def _latency_fields(metric: str, durations_s: "array[float]") -> dict[str, float]:
    stats = latency_stats(durations_s)
    if stats is None:
        return {}
    return {
        f"mean_{metric}_ms": stats.mean_ms,
        f"median_{metric}_ms": stats.median_ms,
        f"std_{metric}_ms": stats.std_ms,
        f"p90_{metric}_ms": stats.p90_ms,
        f"p95_{metric}_ms": stats.p95_ms,
        f"p99_{metric}_ms": stats.p99_ms,
    }
