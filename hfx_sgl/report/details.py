"""Plots of single runs at one load factor: latency distributions and workers over time."""

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hfx_sgl.report.figures import line_style, save_panels
from hfx_sgl.report.grid import RunGrid, cluster_title, sequence_of_runs
from hfx_sgl.results.reader import Run
from hfx_sgl.results.record import RequestRecord
from hfx_sgl.results.run import WorkerSample

_MAX_POINTS = 2_000
"""Of a distribution's curve; more would only make the file larger."""


def plot_latencies(grid: RunGrid, cluster: str, load_factor: float, path: Path) -> None:
    """Draw the distributions of TTFT and TPOT, a line per policy.

    Requests that got no first token count: their curve ends below 100 %.
    """
    runs = sequence_of_runs(grid, cluster, load_factor)
    panels: list[tuple[str, Callable[[RequestRecord], float | None]]] = [
        ("TTFT, s", lambda record: record.ttft_s),
        ("TPOT, s", lambda record: record.tpot_s),
    ]

    def draw(axes: Any, index: int) -> None:
        label, number = panels[index]
        for order, (policy, run) in enumerate(runs):
            _draw_distribution(axes, run, number, policy, line_style(order)["color"])
        axes.set_xscale("log")
        axes.set_ylim(0, 101)
        axes.set_xlabel(label)
        axes.set_ylabel("% of requests")
        axes.legend(fontsize=8)

    save_panels(
        path,
        [f"{cluster_title(cluster)} at {load_factor:g}x: {label}" for label, _ in panels],
        draw,
    )


def plot_workers(grid: RunGrid, cluster: str, load_factor: float, path: Path) -> bool:
    """Draw requests waiting and running in the workers over time, a row per policy.

    Returns whether any run had samples; without them there is no plot.
    """
    runs = [
        (policy, samples)
        for policy, run in sequence_of_runs(grid, cluster, load_factor)
        if (samples := _by_worker(run))
    ]
    if not runs:
        return False
    panels: list[tuple[str, str, Callable[[WorkerSample], float]]] = [
        ("waiting", "requests", lambda sample: sample.num_waiting_reqs),
        ("running", "requests", lambda sample: sample.num_running_reqs),
        ("KV in use", "% of room", lambda sample: sample.token_usage * 100),
    ]
    titles = [f"{policy}: {name}" for policy, _ in runs for name, _, _ in panels]

    def draw(axes: Any, index: int) -> None:
        _, samples = runs[index // len(panels)]
        _, unit, number = panels[index % len(panels)]
        for order, (worker, of_worker) in enumerate(samples.items()):
            axes.plot(
                [sample.at_s for sample in of_worker],
                [number(sample) for sample in of_worker],
                label=worker,
                linewidth=1.0,
                color=line_style(order)["color"],
            )
        axes.set_ylim(bottom=0)
        axes.set_xlabel("s")
        axes.set_ylabel(unit)
        if len(samples) <= 8:
            axes.legend(fontsize=7)

    save_panels(path, titles, draw, num_columns=len(panels))
    return True


def _draw_distribution(
    axes: Any, run: Run, number: Callable[[RequestRecord], float | None], label: str, colour: str
) -> None:
    values = []
    num_records = 0
    for record in run.records():
        num_records += 1
        value = number(record)
        if value is not None and value > 0:
            values.append(value)
    if not values:
        return
    values.sort()
    stride = max(1, len(values) // _MAX_POINTS)
    ranks = range(0, len(values), stride)
    axes.plot(
        [values[rank] for rank in ranks],
        [(rank + 1) / num_records * 100 for rank in ranks],
        label=label,
        color=colour,
        linewidth=1.6,
    )


def _by_worker(run: Run) -> dict[str, list[WorkerSample]]:
    samples: dict[str, list[WorkerSample]] = defaultdict(list)
    for sample in run.workers():
        samples[f"{sample.role} {sample.worker}"].append(sample)
    return dict(sorted(samples.items()))
