"""The command: which points, and what to print."""

import argparse
import math
import sys

from policy_bench.measure import Cell, Cost, measure, whole_life

from hfx_sgl.errors import ConfigError
from hfx_sgl.policy.bounds import at_least, check

TARGET_US = 100.0
LIFE_TARGET_US = 30.0
_NOISE = 1.5
"""A median may be off by this factor."""
_WORKERS = (4, 16, 64, 250, 1000)
_WAITING = (0, 100, 1000, 10_000)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="bench_policy",
        description="What one decision of the scheduler costs, by workers and waiting requests: "
        "an arrival with the decision after it; a decision that sends a request; the end of a "
        "prefill or an answer with the decision after it. Processor time. "
        f"Target: {TARGET_US:.0f} us in the median at the most workers and requests, "
        "growing no faster than their logarithm. "
        "Run it on an idle machine; it uses one core.",
    )
    parser.add_argument(
        "--workers", type=_numbers, default=_WORKERS, help="(default: 4,16,64,250,1000)"
    )
    parser.add_argument(
        "--queue", type=_numbers, default=_WAITING, help="(default: 0,100,1000,10000)"
    )
    parser.add_argument(
        "--rounds", type=int, default=2000, help="calls timed of each kind (default: %(default)s)"
    )
    parser.add_argument("--unified", action="store_true", help="unified workers, no PD pairs")
    args = parser.parse_args(argv)
    try:
        check(
            at_least("--rounds", args.rounds, 20),
            *(at_least("--workers", number, 2) for number in args.workers),
            *(at_least("--queue", number, 0) for number in args.queue),
        )
    except ConfigError as exc:
        print(exc, file=sys.stderr)
        return 2
    return _run(args.workers, args.queue, not args.unified, args.rounds)


def _run(workers: list[int], queue: list[int], is_pd: bool, num_rounds: int) -> int:
    shape = "half prefill, half decode" if is_pd else "unified"
    print(f"microseconds, median (P99); workers: {shape}")
    print(f"{'workers':>8}{'waiting':>9}{'arrives':>18}{'is sent':>18}{'ends':>18}{'ratio':>7}")
    cells: list[Cell] = []
    for num_workers in workers:
        for num_waiting in queue:
            cells.append(measure(num_workers, num_waiting, is_pd, num_rounds))
            print(_line(cells[-1], cells[0]), flush=True)
    for num_workers in (2, 4):
        life = whole_life(num_workers, is_pd, num_rounds)
        print(
            f"a whole chat request, {num_workers} workers, nobody waits: {_text(life)} us, "
            f"{_verdict(life.median_us <= LIFE_TARGET_US)} ({LIFE_TARGET_US:.0f} us)"
        )
    largest = max(cells, key=lambda cell: (cell.num_workers, cell.num_waiting))
    worst_us = _worst_us(largest)
    is_fast = worst_us <= TARGET_US
    print(
        f"{largest.num_workers} workers, {largest.num_waiting} waiting: {worst_us:.0f} us, "
        f"{_verdict(is_fast)} ({TARGET_US:.0f} us)"
    )
    is_flat = _grows_like_log(cells)
    print(f"growth no faster than the logarithm of workers and requests: {_verdict(is_flat)}")
    return 0 if is_fast and is_flat else 1


def _grows_like_log(cells: list[Cell]) -> bool:
    """Compare each with the smallest that has requests waiting."""
    waiting = [cell for cell in cells if cell.num_waiting] or cells
    first = waiting[0]
    base_us = _worst_us(first)
    return all(
        _worst_us(cell) <= _NOISE * base_us * _log_size(cell) / _log_size(first) for cell in waiting
    )


def _log_size(cell: Cell) -> float:
    return math.log2(cell.num_workers * (1 + cell.num_waiting))


def _line(cell: Cell, first: Cell) -> str:
    return (
        f"{cell.num_workers:>8}{cell.num_waiting:>9}{_text(cell.arrival):>18}"
        f"{_text(cell.send):>18}{_text(cell.end):>18}{_worst_us(cell) / _worst_us(first):>7.2f}"
    )


def _worst_us(cell: Cell) -> float:
    return max(cell.arrival.median_us, cell.send.median_us, cell.end.median_us)


def _text(cost: Cost) -> str:
    return f"{cost.median_us:.1f} ({cost.p99_us:.1f})"


def _verdict(is_met: bool) -> str:
    return "met" if is_met else "missed"


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]
