"""Several receivers at once, against one: over shared memory, loopback, and limited uplinks."""

import random
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec
from transfer_bench.content import Content, make_content
from transfer_bench.crowd_plan import LIMITED, CrowdPlan, pulls
from transfer_bench.links import limited_uplinks
from transfer_bench.pairs import START_TIMEOUT_S
from transfer_bench.processes import BenchError, Station
from transfer_bench.results import Crowd, CrowdMeasurement
from transfer_bench.session import RUN_TIMEOUT_S
from transfer_bench.timing import Timed

Say = Callable[[str], None]


class CrowdSession:
    """The children: a source and as many receivers as there are at most."""

    def __init__(self, content: Content, plan: CrowdPlan, *, folder: Path, say: Say) -> None:
        self._content = content
        self._plan = plan
        self._folder = folder
        self._say = say

    def measure(self, crowds: Sequence[Crowd]) -> list[CrowdMeasurement]:
        """Run every round; stop everything that was started, whatever happens."""
        measurements: list[CrowdMeasurement] = []
        free = [each for each in crowds if each not in LIMITED]
        if free:
            hosts = ["127.0.0.1"] * (1 + self._plan.num_receivers)
            measurements += self._measure(free, self._content, hosts)
        limited = [each for each in crowds if each in LIMITED]
        if limited:
            small = self._small_content()
            num_hosts = 1 + self._plan.num_receivers
            with limited_uplinks(num_hosts, self._plan.link_bytes_per_s) as addresses:
                measurements += self._measure(limited, small, addresses)
        return measurements

    def _measure(
        self, crowds: Sequence[Crowd], content: Content, hosts: Sequence[str]
    ) -> list[CrowdMeasurement]:
        found: list[CrowdMeasurement] = []
        with _stations(content, self._plan.num_receivers, self._folder) as (source, takers):
            url = source.ask("serve_crowd", timeout_s=START_TIMEOUT_S, host=hosts[0])
            run = _Run(self._plan, content, hosts, url, source, takers)
            self._say("warming up: several receivers")
            for crowd in crowds:
                run.once(crowd, len(takers), 0)
            for index in range(self._plan.num_rounds):
                for crowd in crowds:
                    # Which comes first changes, so that what the machine does meanwhile is shared.
                    sizes = (1, len(takers)) if index % 2 else (len(takers), 1)
                    for num_receivers in sizes:
                        found.append(run.once(crowd, num_receivers, index))
                        self._say(_progress(found[-1], self._plan.num_rounds))
        return found

    def _small_content(self) -> Content:
        folder = self._folder / "links"
        folder.mkdir()
        return make_content(folder, self._plan.link_size_bytes)


class _Run:
    """Carries out single runs with children that are there already."""

    def __init__(
        self,
        plan: CrowdPlan,
        content: Content,
        hosts: Sequence[str],
        url: str,
        source: Station,
        takers: Sequence[Station],
    ) -> None:
        self._plan = plan
        self._content = content
        self._hosts = hosts
        self._url = url
        self._source = source
        self._takers = takers

    def once(self, crowd: Crowd, num_receivers: int, round_index: int) -> CrowdMeasurement:
        """Have that many receivers load at once."""
        takers = self._takers[:num_receivers]
        ports = [_free_port(host) for host in self._hosts[1 : 1 + num_receivers]]
        todo = pulls(self._plan, crowd, self._content.size_bytes, self._url, self._hosts, ports)
        family = [self._source, *takers]
        before_s = sum(station.cpu_s() for station in family)
        for taker, pull in zip(takers, todo.pulls, strict=True):
            taker.begin("join_crowd", **msgspec.to_builtins(pull))
        runs, problems = _ended(takers)
        cpu_s = sum(station.cpu_s() for station in family) - before_s
        for taker in takers:
            if not taker.ask("check_crowd", timeout_s=RUN_TIMEOUT_S):
                problems.append(f"{taker.name}: what arrived is not what was sent")
        for taker in takers:
            taker.ask("leave_crowd", timeout_s=RUN_TIMEOUT_S)
        began_s = min((run.began_at_s for run in runs), default=0.0)
        ended_s = max((run.began_at_s + run.seconds for run in runs), default=0.0)
        return CrowdMeasurement(
            round_index=round_index,
            crowd=crowd,
            num_receivers=num_receivers,
            size_bytes=self._content.size_bytes,
            seconds=ended_s - began_s,
            cpu_s=cpu_s,
            predicted_s=todo.predicted_s,
            problem="; ".join(problems) or None,
            note=todo.shape,
        )


def _ended(takers: Sequence[Station]) -> tuple[list[Timed], list[str]]:
    """Wait for all; return the runs that went well, and what went wrong with the others."""
    runs, problems = [], []
    for taker in takers:
        try:
            runs.append(msgspec.convert(taker.end(timeout_s=RUN_TIMEOUT_S), Timed))
        except BenchError as exc:
            problems.append(str(exc))
    return runs, problems


@contextmanager
def _stations(
    content: Content, num_receivers: int, folder: Path
) -> Iterator[tuple[Station, list[Station]]]:
    names = ["crowd-source", *(f"crowd-{index}" for index in range(num_receivers))]
    stations: list[Station] = []
    try:
        for name in names:
            stations.append(Station(name, log_dir=folder))
            stations[-1].begin("describe", content=msgspec.to_builtins(content))
        for station in stations:
            station.end(timeout_s=START_TIMEOUT_S)
        yield stations[0], stations[1:]
    finally:
        for station in stations:
            station.stop()


def _free_port(host: str) -> int:
    """Return a port below the ephemeral ones that nobody listens on."""
    rng = random.Random(time.monotonic_ns())
    while True:
        port = rng.randrange(20_000, 32_000)
        with socket.socket() as probe:
            if probe.connect_ex((host, port)):
                return port


def _progress(item: CrowdMeasurement, num_rounds: int) -> str:
    outcome = item.problem or f"{item.seconds:.3f} s, CPU {item.cpu_s:.2f} s"
    return (
        f"round {item.round_index + 1} of {num_rounds}, {item.crowd}, "
        f"{item.num_receivers} at once: {outcome} ({item.note})"
    )
