"""From measurements to rows, ratios and verdicts. Arithmetic only; what failed never counts."""

from collections.abc import Iterable, Iterator, Sequence
from statistics import median

from transfer_bench.results import (
    Crowd,
    CrowdMeasurement,
    CrowdRow,
    Measurement,
    Ratio,
    Row,
    Spread,
    Verdict,
    Way,
)

OURS = (Way.MOONCAKE, Way.SOCKET, Way.SHM_COPY, Way.SHM_CHECKED, Way.SHM, Way.CUDA)
OVER_TCP = (Way.MOONCAKE, Way.SOCKET)
DISKS = (
    Way.DISK_COLD, Way.DISK_COLD_READS, Way.DISK_1000, Way.DISK_500, Way.DISK_200, Way.DISK_WARM
)  # fmt: skip
BASELINES = (*DISKS, Way.BATCH, Way.SOCKETS, Way.MEMCPY)

SOCKETS_GOAL, SHM_GOAL, SLOW_DISK_GOAL, CROWD_GOAL = 0.85, 15.0, 9.0, 1.5


def rows_of(measurements: Sequence[Measurement], size_bytes: int) -> list[Row]:
    """Return one row for each way that was measured at least once."""
    rows = []
    for way in Way:
        runs = [each for each in measurements if each.way is way]
        good = [each for each in runs if each.problem is None]
        if good:
            rows.append(
                Row(
                    way=way,
                    seconds=spread_of(each.seconds for each in good),
                    bytes_per_s=spread_of(size_bytes / each.seconds for each in good),
                    cpu_s=spread_of(each.cpu_s for each in good),
                    num_failed=len(runs) - len(good),
                )
            )
    return rows


def ratios_of(measurements: Sequence[Measurement]) -> list[Ratio]:
    """Return our ways over each baseline, by the rounds in which both count."""
    times = {
        (each.way, each.round_index): each.seconds for each in measurements if each.problem is None
    }
    ratios = []
    for way in OURS:
        for baseline in BASELINES:
            rounds = [index for name, index in times if name is way and (baseline, index) in times]
            if rounds:
                quotients = (times[baseline, index] / times[way, index] for index in rounds)
                ratios.append(Ratio(way=way, baseline=baseline, spread=spread_of(quotients)))
    return ratios


def crowd_rows_of(measurements: Sequence[CrowdMeasurement], num_cpus: int) -> list[CrowdRow]:
    """Return one row for each crowd, by the rounds in which one and all count."""
    rows = []
    for crowd in Crowd:
        good = [each for each in measurements if each.crowd is crowd and each.problem is None]
        alone = {each.round_index: each for each in good if each.num_receivers == 1}
        crowds = {each.round_index: each for each in good if each.num_receivers > 1}
        pairs = [(alone[index], crowds[index]) for index in alone if index in crowds]
        if pairs:
            rows.append(_crowd_row(crowd, pairs, num_cpus))
    return rows


def _crowd_row(
    crowd: Crowd, pairs: Sequence[tuple[CrowdMeasurement, CrowdMeasurement]], num_cpus: int
) -> CrowdRow:
    predicted = pairs[0][1].predicted_s
    return CrowdRow(
        crowd=crowd,
        num_receivers=pairs[0][1].num_receivers,
        one_s=spread_of(one.seconds for one, _ in pairs),
        all_s=spread_of(many.seconds for _, many in pairs),
        ratio=spread_of(many.seconds / one.seconds for one, many in pairs),
        cpu_limit=spread_of(many.cpu_s / num_cpus / one.seconds for one, many in pairs),
        predicted_s=predicted,
    )


def verdicts_of(
    ratios: Sequence[Ratio], crowd_rows: Sequence[CrowdRow], num_receivers: int
) -> list[Verdict]:
    """Judge every target."""
    shm = [Way.SHM]
    return [
        _verdict("over TCP, verified, of raw sockets", ratios, OVER_TCP, Way.SOCKETS, SOCKETS_GOAL),
        _verdict("shm, times disk cold (safetensors)", ratios, shm, Way.DISK_COLD, SHM_GOAL),
        _verdict(
            "shm, digested again, times disk cold (safetensors)",
            ratios,
            [Way.SHM_CHECKED],
            Way.DISK_COLD,
            SHM_GOAL,
        ),
        _verdict(
            "over TCP, times disk at 200 MB/s", ratios, OVER_TCP, Way.DISK_200, SLOW_DISK_GOAL
        ),
        _verdict("shm, times disk at 200 MB/s", ratios, shm, Way.DISK_200, SLOW_DISK_GOAL),
        *(_crowd_verdict(crowd, crowd_rows, num_receivers) for crowd in _JUDGED),
    ]


_JUDGED = {
    Crowd.SHM: "over shm",
    Crowd.SHM_CHECKED: "over shm, digested again",
    Crowd.TCP_PLAN: "as planned, over loopback",
    Crowd.LINKS_PLAN: "as planned, over limited links",
}


def where_disk_wins(ratios: Sequence[Ratio]) -> list[Ratio]:
    """Return those of our ways over a disk in which the disk was faster."""
    return [each for each in ratios if each.baseline in DISKS and each.spread.median < 1]


def spread_of(values: Iterable[float]) -> Spread:
    """Return median and extremes of at least one value."""
    found = list(values)
    return Spread(median=median(found), low=min(found), high=max(found), num=len(found))


def _verdict(
    target: str, ratios: Sequence[Ratio], ways: Sequence[Way], baseline: Way, goal: float
) -> Verdict:
    """Judge the best of several ways."""
    candidates = [each for each in ratios if each.way in ways and each.baseline is baseline]
    if not candidates:
        return Verdict(target=target, goal=f"{goal:g}x", figure="not run", is_reached=None)
    best = max(candidates, key=lambda each: each.spread.median)
    return Verdict(
        target=target,
        goal=f"{goal:g}x",
        figure=f"{best.spread.median:.2f}x ({best.way})",
        is_reached=best.spread.median >= goal,
    )


def _crowd_verdict(crowd: Crowd, rows: Sequence[CrowdRow], num_receivers: int) -> Verdict:
    target = f"{num_receivers} receivers {_JUDGED[crowd]}, times one"
    goal = f"{CROWD_GOAL:g}x at most"
    row = next((row for row in rows if row.crowd is crowd), None)
    if row is None:
        return Verdict(target=target, goal=goal, figure="not run", is_reached=None)
    is_reached = row.ratio.median <= CROWD_GOAL
    figure = f"{row.ratio.median:.2f}x"
    if not is_reached:
        figure += f" (processors allow {row.cpu_limit.median:.2f}x)"
    return Verdict(target=target, goal=goal, figure=figure, is_reached=is_reached)


def failures(
    measurements: Sequence[Measurement], crowds: Sequence[CrowdMeasurement]
) -> Iterator[str]:
    """Yield one line for each run that does not count."""
    for each in measurements:
        if each.problem is not None:
            yield f"round {each.round_index + 1}, {each.way}: {each.problem}"
    for crowd in crowds:
        if crowd.problem is not None:
            yield (
                f"round {crowd.round_index + 1}, {crowd.crowd}, {crowd.num_receivers} receivers: "
                f"{crowd.problem}"
            )
