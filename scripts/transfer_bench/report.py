"""A benchmark record as Markdown."""

from collections.abc import Iterator, Sequence

from transfer_bench.results import BenchRecord, Crowd, CrowdRow, Ratio, Row, Spread, Verdict, Way
from transfer_bench.summary import BASELINES, OURS, failures, where_disk_wins

LABELS = {
    Way.MEMCPY: "memcpy, one thread",
    Way.SOCKETS: "raw sockets, two connections, not verified",
    Way.DISK_COLD: "disk cold, safetensors",
    Way.DISK_COLD_READS: "disk cold, reads of 16 MiB",
    Way.DISK_WARM: "disk warm (page cache), safetensors",
    Way.DISK_1000: "disk cold, limited to 1000 MB/s",
    Way.DISK_500: "disk cold, limited to 500 MB/s",
    Way.DISK_200: "disk cold, limited to 200 MB/s",
    Way.BATCH: "one batch call of Mooncake (as SGLang does), not verified",
    Way.MOONCAKE: "**ours, mooncake**, verified",
    Way.SOCKET: "**ours, socket**, verified",
    Way.SHM_COPY: "**ours, shm with copy**, verified",
    Way.SHM_CHECKED: "**ours, shm mapped**, digested again",
    Way.SHM: "**ours, shm mapped**, digested by its owner alone",
    Way.CUDA: "**ours, into CUDA memory**, verified",
}
CROWD_LABELS = {
    Crowd.SHM: "shm mapped",
    Crowd.SHM_CHECKED: "shm mapped, digested again",
    Crowd.TCP_STAR: "loopback, all from the source",
    Crowd.TCP_PLAN: "loopback, as planned",
    Crowd.LINKS_STAR: "limited uplinks, all from the source",
    Crowd.LINKS_PLAN: "limited uplinks, as planned",
}


def render(record: BenchRecord) -> str:
    """Return the whole page."""
    parts = [
        "# Weights from a peer's memory",
        *_conditions(record),
        "## Targets",
        _targets(record.verdicts),
        "## One receiver",
        _rows(record.rows),
    ]
    if record.ratios:
        parts += ["Times faster than, paired by round:", _ratios(record.ratios)]
        parts += ["## Where disk wins", *_disk_wins(record.ratios)]
    if record.crowd_rows:
        parts += ["## Several receivers at once", *_crowds(record)]
    problems = list(failures(record.measurements, record.crowd_measurements))
    if problems:
        parts += ["## Runs that do not count", "\n".join(f"- {line}" for line in problems)]
    if record.not_run:
        lines = [f"- {name} not run: {reason}" for name, reason in record.not_run.items()]
        parts += ["## Not run", "\n".join(lines)]
    return "\n\n".join(parts) + "\n"


def _conditions(record: BenchRecord) -> Iterator[str]:
    machine, settings = record.machine, record.settings
    commit = (record.commit or "unknown")[:12] + (" with local changes" if record.is_dirty else "")
    start, end = record.load_average_start[0], record.load_average_end[0]
    yield (
        f"{_size(settings.size_bytes)} in {settings.num_tensors} tensors, {settings.num_rounds} "
        "rounds in which every way is run once, in rotating order, into memory that has no pages "
        "yet (large pages where a kernel has them, but for safetensors and the batch call, whose "
        "users take torch's memory). Medians (smallest-largest). Each run is compared bit by bit "
        "afterwards; one that fails, or reads less from the disk than it should, does not count."
    )
    yield (
        f"hfx-sgl at {commit}; {machine.cpu_model}, {machine.num_cpus} CPUs, disk {machine.disk}, "
        f"kernel {machine.kernel}, Python {machine.python}. Load average {start:.1f} at the start, "
        f"{end:.1f} at the end; {100 * record.stolen_cpu_ratio:.1f} % of the processors' time went "
        f"to other guests. {record.started_at}."
    )
    yield (
        "Times of ours are those of one call that asks for the manifest, takes a lease, allocates, "
        "pulls, and verifies every chunk; with mapped shm every page is touched instead of copied. "
        "Those of the batch call are of the call alone."
    )


def _targets(verdicts: Sequence[Verdict]) -> str:
    names = {True: "reached", False: "**missed**", None: "not run"}
    rows = [[each.target, each.goal, each.figure, names[each.is_reached]] for each in verdicts]
    return _table(["target", "goal", "figure", ""], rows)


def _rows(rows: Sequence[Row]) -> str:
    cells = [
        [
            LABELS[row.way],
            _spread(row.seconds, 3),
            f"{row.bytes_per_s.median / 1e9:.2f}",
            f"{row.cpu_s.median:.2f}",
            str(row.seconds.num) + (f" ({row.num_failed} failed)" if row.num_failed else ""),
        ]
        for row in rows
    ]
    return _table(["way", "seconds", "GB/s", "CPU s, both sides", "rounds"], cells)


def _ratios(ratios: Sequence[Ratio]) -> str:
    by_pair = {(each.way, each.baseline): each.spread for each in ratios}
    ways = [way for way in OURS if any(pair[0] is way for pair in by_pair)]
    baselines = [each for each in BASELINES if any(pair[1] is each for pair in by_pair)]
    cells = [
        [
            LABELS[baseline],
            *(
                _spread(by_pair[way, baseline], 2, "x") if (way, baseline) in by_pair else "-"
                for way in ways
            ),
        ]
        for baseline in baselines
    ]
    return _table(["", *(str(way) for way in ways)], cells)


def _disk_wins(ratios: Sequence[Ratio]) -> Iterator[str]:
    wins = where_disk_wins(ratios)
    if not wins:
        yield "Nowhere in this run."
        return
    yield "\n".join(
        f"- {LABELS[each.baseline]} is faster than {each.way}: "
        f"{each.way} reaches {each.spread.median:.2f}x of it"
        for each in wins
    )


def _crowds(record: BenchRecord) -> Iterator[str]:
    settings, rows = record.settings, record.crowd_rows
    yield _table(
        ["way", "receivers", "one, s", "all, s", "all / one", "least by CPU", "predicted, s"],
        [_crowd_cells(row) for row in rows],
    )
    yield (
        "Least by CPU: the processor time that all receivers and their sources took together, "
        "spread evenly over all cores, against the time of one. Where it is above the goal, the "
        "machine has too few cores to show anything else."
    )
    if any(row.crowd in (Crowd.LINKS_STAR, Crowd.LINKS_PLAN) for row in rows):
        yield (
            f"Limited uplinks: each receiver and the source have an address of their own on "
            f"loopback, from which at most {settings.link_bytes_per_s / 1e6:g} MB/s leave (htb), "
            f"with {_size(settings.link_size_bytes)} of weights: what links, not processors, limit."
        )


def _crowd_cells(row: CrowdRow) -> list[str]:
    return [
        CROWD_LABELS[row.crowd],
        str(row.num_receivers),
        _spread(row.one_s, 3),
        _spread(row.all_s, 3),
        _spread(row.ratio, 2, "x"),
        f"{row.cpu_limit.median:.2f}x",
        "-" if row.predicted_s is None else f"{row.predicted_s:.3f}",
    ]


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    ruler = ["---", *("---:" for _ in headings[1:])]
    return "\n".join("| " + " | ".join(row) + " |" for row in [headings, ruler, *rows])


def _spread(spread: Spread, digits: int, unit: str = "") -> str:
    middle = f"{spread.median:.{digits}f}{unit}"
    if spread.num == 1:
        return middle
    return f"{middle} ({spread.low:.{digits}f}-{spread.high:.{digits}f})"


def _size(size_bytes: int) -> str:
    mib = size_bytes / (1 << 20)
    return f"{mib / 1024:g} GiB" if mib >= 1024 else f"{mib:g} MiB"
