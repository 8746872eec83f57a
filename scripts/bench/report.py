"""A benchmark record as Markdown."""

from collections.abc import Sequence

from bench.results import BenchRecord, Figure, FigureName, Ratio, SetupName, Spread

COLUMNS: dict[FigureName, tuple[str, int]] = {
    FigureName.REQUESTS_PER_S: ("requests/s", 0),
    FigureName.CPU_PER_REQUEST_US: ("CPU us/request", 1),
    FigureName.LATENCY_P50_US: ("latency p50 us, 1 conn", 0),
    FigureName.LATENCY_P99_US: ("p99 us", 0),
    FigureName.TTFT_P50_MS: ("TTFT p50 ms, 16 streams", 2),
    FigureName.ADDED_TTFT_MS: ("added TTFT ms", 2),
    FigureName.CPU_PER_CHUNK_US: ("CPU us/chunk", 2),
    FigureName.DELAY_P50_US: ("chunk delay p50 us", 0),
    FigureName.DELAY_P99_US: ("p99 us", 0),
    FigureName.DELIVERED_CHUNKS_PER_S: ("delivered chunks/s", 0),
    FigureName.DELIVERED_DELAY_P50_MS: ("their delay p50 ms", 2),
    FigureName.DELIVERED_DELAY_P99_MS: ("p99 ms", 1),
}
"""Heading and decimals of each figure."""


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
        figure_table(record.figures),
    ]
    if record.ratios:
        parts += ["Ours over sglang-router's, paired by round:", ratio_table(record.ratios)]
    lines = [
        f"{'PASS' if item.is_met else 'FAIL'}  {item.setup}: {item.target} "
        f"(measured {_number(item.value, 2)})"
        for item in record.verdicts
    ]
    return "\n\n".join([*parts, *(["\n".join(lines)] if lines else [])])


def figure_table(figures: Sequence[Figure]) -> str:
    """Return medians with their smallest and largest value, a row per setup."""
    cells = {(item.setup, item.name): item.spread for item in figures}
    return _table(cells, {name: digits for name, (_, digits) in COLUMNS.items()}, unit="")


def ratio_table(ratios: Sequence[Ratio]) -> str:
    """Return ratios, a row per setup."""
    cells = {(item.setup, item.name): item.spread for item in ratios}
    return _table(cells, dict.fromkeys(COLUMNS, 2), unit="x")


def _table(
    cells: dict[tuple[SetupName, FigureName], Spread], digits: dict[FigureName, int], *, unit: str
) -> str:
    names = [name for name in COLUMNS if any(key[1] is name for key in cells)]
    setups = [setup for setup in SetupName if any(key[0] is setup for key in cells)]
    rows = [["", *(COLUMNS[name][0] for name in names)], ["---"] * (len(names) + 1)]
    for setup in setups:
        row = [_cell(cells.get((setup, name)), digits[name], unit) for name in names]
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
