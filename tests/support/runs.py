"""Finished runs that nobody has run."""

from collections.abc import Mapping
from pathlib import Path

from hfx_sgl.results.reader import Run
from hfx_sgl.results.run import RunInfo
from hfx_sgl.results.summary import ServingMetrics, Summary


def make_run(
    *,
    seed: int = 1,
    attained: Mapping[str, tuple[int, int]] | None = None,
    mean_e2e_ms: float | None = None,
    num_failed: int = 0,
) -> Run:
    """Return a run with so many requests in each class, and so many of them attained."""
    attained = attained or {"chat": (10, 10)}
    return Run(
        path=Path("nowhere"),
        info=RunInfo(
            tool="sim",
            policy="hfx",
            cluster="2P+2D",
            profile="linear",
            workload="mixed",
            load_factor=1.0,
            seed=seed,
            duration_s=300.0,
            version="0.0.0",
        ),
        summary=Summary(
            overall=_metrics(
                sum(num for num, _ in attained.values()),
                sum(kept for _, kept in attained.values()),
                num_failed,
                mean_e2e_ms,
            ),
            classes={name: _metrics(num, kept, 0, None) for name, (num, kept) in attained.items()},
            worst_class=None,
        ),
    )


def _metrics(
    num_requests: int, num_attained: int, num_failed: int, mean_e2e_ms: float | None
) -> ServingMetrics:
    return ServingMetrics(
        num_requests=num_requests,
        completed=num_requests - num_failed,
        rejected=0,
        failed=num_failed,
        timed_out=0,
        duration=300.0,
        total_input_tokens=0,
        total_output_tokens=0,
        num_cached_tokens=0,
        slo_attainment=num_attained / num_requests,
        mean_e2e_latency_ms=mean_e2e_ms,
    )
