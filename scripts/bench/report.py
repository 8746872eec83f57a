"""A benchmark record as Markdown."""

from bench.results import BenchRecord, FigureName, SetupName, Spread
from bench.summary import problems_of

Columns = dict[FigureName, tuple[str, int]]

REQUEST_COLUMNS: Columns = {
    FigureName.REQUESTS_PER_S: ("requests/s", 0),
    FigureName.CPU_PER_REQUEST_US: ("CPU us/request", 1),
    FigureName.ROUTER_CPU_RATIO: ("share of its core", 2),
    FigureName.LATENCY_P50_US: ("latency p50 us, 1 connection", 0),
    FigureName.LATENCY_P99_US: ("p99 us", 0),
}
STREAM_COLUMNS: Columns = {
    FigureName.TTFT_P50_MS: ("TTFT p50 ms", 2),
    FigureName.ADDED_TTFT_MS: ("added TTFT ms", 2),
    FigureName.CPU_PER_CHUNK_US: ("CPU us/chunk", 2),
    FigureName.DELAY_P50_US: ("chunk delay p50 us", 0),
    FigureName.DELAY_P99_US: ("p99 us", 0),
    FigureName.DELIVERED_CHUNKS_PER_S: ("chunks/s of 100,000", 0),
    FigureName.DELIVERED_DELAY_P50_MS: ("their delay p50 ms", 2),
    FigureName.DELIVERED_DELAY_P99_MS: ("p99 ms", 1),
}
"""Heading and decimals of each figure."""

Cells = dict[tuple[SetupName, FigureName], Spread]

STARVED_RATIO = 0.9
"""A saturated router with less of its core than this was held back by something else."""


def render(record: BenchRecord) -> str:
    """Return tables of figures and ratios, and one line per target."""
    machine, settings = record.machine, record.settings
    start, end = record.load_average_start, record.load_average_end
    commit = (record.commit or "unknown")[:12] + (" with local changes" if record.is_dirty else "")
    parts = [
        f"hfx-router at {commit}, sglang-router {settings.sglang_router_version}; "
        f"{machine.cpu_model}, {machine.num_cpus} CPUs, Python {machine.python}.",
        f"{settings.num_rounds} rounds of {settings.seconds:g} s after {settings.warmup_s:g} s of "
        f"warm-up; router on core {machine.router_core}, workers and client on core "
        f"{machine.load_core}; {settings.num_steady_streams} streams for the chunk delay, "
        f"{settings.num_flood_streams} for delivery, one chunk per "
        f"{settings.token_interval_us / 1000:g} ms each; log level {settings.log_level}.",
        f"Load average {start[0]:.2f} at the start, {end[0]:.2f} at the end; "
        f"{record.stolen_cpu_ratio:.1%} of the CPU time stolen by the host.",
        *tables({(item.setup, item.name): item.spread for item in record.figures}, unit=""),
    ]
    if record.ratios:
        cells = {(item.setup, item.name): item.spread for item in record.ratios}
        parts += ["Ours over sglang-router's, paired by round:", *tables(cells, unit="x")]
    notes = [*problem_lines(record), *starved_lines(record)]
    parts += ["\n".join(lines) for lines in (notes, verdict_lines(record)) if lines]
    return "\n\n".join(parts)


def problem_lines(record: BenchRecord) -> list[str]:
    """Return a line per phase with requests that failed."""
    return [
        f"{'BROKEN' if problem.is_fatal else 'NOTE'}  {problem.text}"
        for problem in problems_of(record.measurements, record.worker_counts)
    ]


def starved_lines(record: BenchRecord) -> list[str]:
    """Return a line per setup whose requests/s say more about other load than about it."""
    return [
        f"NOTE  {item.setup} got {item.spread.median:.0%} of its core when saturated: other load "
        "bounds its requests/s, and its CPU per request much less."
        for item in record.figures
        if item.name is FigureName.ROUTER_CPU_RATIO and item.spread.median < STARVED_RATIO
    ]


def verdict_lines(record: BenchRecord) -> list[str]:
    """Return a line per target."""
    return [
        f"{'PASS' if item.is_met else 'FAIL'}  {item.setup}: {item.target} "
        f"(measured {_number(item.value, 2)})"
        for item in record.verdicts
    ]


def tables(cells: Cells, *, unit: str) -> list[str]:
    """Return up to two tables, requests and streams: medians (smallest-largest), a row per setup.

    Values with a unit are shown with two decimals.
    """
    rendered = []
    for columns in (REQUEST_COLUMNS, STREAM_COLUMNS):
        names = [name for name in columns if any(key[1] is name for key in cells)]
        if names:
            rendered.append(_table(cells, {name: columns[name] for name in names}, unit))
    return rendered


def _table(cells: Cells, columns: Columns, unit: str) -> str:
    setups = [s for s in SetupName if any((s, name) in cells for name in columns)]
    rows = [["", *(heading for heading, _ in columns.values())], ["---"] * (len(columns) + 1)]
    for setup in setups:
        row = [
            _cell(cells.get((setup, name)), 2 if unit else digits, unit)
            for name, (_, digits) in columns.items()
        ]
        rows.append([str(setup), *row])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _cell(spread: Spread | None, digits: int, unit: str) -> str:
    if spread is None:
        return "-"
    middle = f"{_number(spread.median, digits)}{unit}"
    if spread.low == spread.high:
        return middle
    return f"{middle} ({_number(spread.low, digits)}-{_number(spread.high, digits)})"


def _number(value: float, digits: int) -> str:
    return f"{value:,.{digits}f}" if abs(value) < 1000 else f"{value:,.0f}"
