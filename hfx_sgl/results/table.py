"""A summary as a table for a terminal."""

from hfx_sgl.results.summary import ServingMetrics, Summary

_HEADINGS = (
    "class", "requests", "ok", "rejected", "failed", "timeout", "attained", "good/s",
    "TTFT p50", "p99", "TPOT p50", "p99", "E2E p50", "p99 ms",
)  # fmt: skip
_MISSING = "-"


def format_summary(summary: Summary) -> str:
    """Return one line per class and one for all, with latencies in milliseconds."""
    rows: list[tuple[str, ...]] = [_HEADINGS]
    rows += [_row(name, metrics) for name, metrics in summary.classes.items()]
    rows.append(_row("all", summary.overall))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(_aligned(row, widths)).rstrip() for row in rows]
    worst = summary.worst_class
    if worst is not None and len(summary.classes) > 1:
        lines.append(f"worst class: {worst.name}, {_percent(worst.slo_attainment)} attained")
    return "\n".join(lines)


def _aligned(row: tuple[str, ...], widths: list[int]) -> list[str]:
    first, *rest = zip(row, widths, strict=True)
    return [first[0].ljust(first[1])] + [cell.rjust(width) for cell, width in rest]


def _row(name: str, metrics: ServingMetrics) -> tuple[str, ...]:
    return (
        name,
        str(metrics.num_requests),
        str(metrics.completed),
        str(metrics.rejected),
        str(metrics.failed),
        str(metrics.timed_out),
        _percent(metrics.slo_attainment),
        _MISSING if metrics.request_goodput is None else f"{metrics.request_goodput:.2f}",
        *map(
            _ms,
            (
                metrics.median_ttft_ms,
                metrics.p99_ttft_ms,
                metrics.median_tpot_ms,
                metrics.p99_tpot_ms,
                metrics.median_e2e_latency_ms,
                metrics.p99_e2e_latency_ms,
            ),
        ),
    )


def _percent(share: float | None) -> str:
    return _MISSING if share is None else f"{100 * share:.1f}%"


def _ms(value: float | None) -> str:
    if value is None:
        return _MISSING
    return f"{value:.1f}" if value < 100 else f"{value:.0f}"
