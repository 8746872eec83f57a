"""One benchmark run: starts the children, walks the rounds, returns the measurements."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import msgspec
from transfer_bench.content import Content
from transfer_bench.pairs import Pair, PairKind
from transfer_bench.processes import BenchError
from transfer_bench.results import Measurement, Way
from transfer_bench.summary import OURS
from transfer_bench.throttle import DiskThrottle, ThrottleError
from transfer_bench.timing import Timed

Say = Callable[[str], None]

RUN_TIMEOUT_S = 300.0
"""A GiB at 200 MB/s takes 5 s; on a machine that does much else it has been seen to take 20."""

COLD_RATIO = 0.98
"""Share of the file that a cold run must have read from the disk: some pages of a file that was
mapped a moment ago cannot be dropped, 4 MB of 1 GiB have been seen."""

LIMITS = {Way.DISK_1000: 1000, Way.DISK_500: 500, Way.DISK_200: 200}
"""In 10^6 bytes a second."""

COLD = frozenset((Way.DISK_COLD, Way.DISK_COLD_READS, *LIMITS))

KINDS = {
    Way.BATCH: PairKind.BATCH,
    **dict.fromkeys(OURS, PairKind.OURS),
}
"""By which children a way is run; the others by those that have no engine."""


class Session:
    """The children of one run, started when they are first needed."""

    def __init__(self, content: Content, *, log_dir: Path, say: Say) -> None:
        self._content = content
        self._log_dir = log_dir
        self._say = say
        self._pairs: dict[PairKind, Pair] = {}

    def measure(self, ways: Sequence[Way], num_rounds: int) -> list[Measurement]:
        """Run every round; stop everything that was started, whatever happens."""
        measurements: list[Measurement] = []
        with ExitStack() as stack:
            stack.callback(self._stop_all)
            for way in ways:
                if way not in LIMITS:
                    self._say(f"warming up: {way}")
                    self._measured(way, 0)
            for index in range(num_rounds):
                # Another way is first in each round, so that none always follows the same one.
                shift = index * len(ways) // num_rounds
                for way in (*ways[shift:], *ways[:shift]):
                    measurements.append(self._measured(way, index))
                    self._say(_progress(measurements[-1], num_rounds))
        return measurements

    def _measured(self, way: Way, round_index: int) -> Measurement:
        kind = KINDS.get(way, PairKind.PLAIN)
        try:
            pair = self._pair(kind)
            before_s = pair.source.cpu_s()
            run = self._run(pair, way)
            cpu_s = run.cpu_s + pair.source.cpu_s() - before_s
        except (BenchError, ThrottleError) as exc:
            # What the children are at is not known any more.
            if kind in self._pairs:
                self._pairs.pop(kind).stop()
            return Measurement(
                round_index=round_index, way=way, seconds=0.0, cpu_s=0.0, disk_bytes=0,
                problem=str(exc), note="",
            )  # fmt: skip
        return Measurement(
            round_index=round_index,
            way=way,
            seconds=run.seconds,
            cpu_s=cpu_s,
            disk_bytes=run.disk_bytes,
            problem=_problem(way, run, self._content.size_bytes),
            note=run.note,
        )

    def _run(self, pair: Pair, way: Way) -> Timed:
        if way in LIMITS:
            with DiskThrottle(Path(self._content.path), LIMITS[way] * 1_000_000) as throttle:
                throttle.take(pair.taker.pid)
                try:
                    return self._asked(pair, way)
                finally:
                    throttle.release(pair.taker.pid)
        return self._asked(pair, way)

    def _asked(self, pair: Pair, way: Way) -> Timed:
        do, fields = pair.question(way)
        answer = pair.taker.ask(do, timeout_s=RUN_TIMEOUT_S, **fields)
        return msgspec.convert(answer, Timed)

    def _pair(self, kind: PairKind) -> Pair:
        if kind not in self._pairs:
            self._pairs[kind] = Pair(kind, self._content, log_dir=self._log_dir)
        return self._pairs[kind]

    def _stop_all(self) -> None:
        while self._pairs:
            self._pairs.popitem()[1].stop()


def _problem(way: Way, run: Timed, size_bytes: int) -> str | None:
    if not run.is_verified:
        return "what arrived is not what was sent"
    if way in COLD and run.disk_bytes < COLD_RATIO * size_bytes:
        return f"only {run.disk_bytes} of {size_bytes} bytes came from the disk"
    return None


def _progress(item: Measurement, num_rounds: int) -> str:
    outcome = item.problem or f"{item.seconds:.3f} s, CPU {item.cpu_s:.2f} s"
    note = f" ({item.note})" if item.note else ""
    return f"round {item.round_index + 1} of {num_rounds}, {item.way}: {outcome}{note}"
