"""Asks every server with a usable worker for its loads, each at its own time.

Draws no conclusions: whoever is told of an answer does.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from heapq import heappop, heappush
from math import ceil
from typing import Protocol

import structlog

from hfx_router.scheduling.load_answer import LOADS_PATH, NoLoads, load_of, parse_loads
from hfx_router.workers.ask import Answer
from hfx_router.workers.registry import Registry
from hfx_router.workers.worker import Worker
from hfx_sgl.clock import Clock
from hfx_sgl.policy.scheduler.facts import WorkerReport
from hfx_sgl.types import Role

_log = structlog.get_logger(__name__)

OnReport = Callable[[str, WorkerReport], None]

TICK_S = 0.02
"""Questions that are due within a tick are asked together: many servers cost few wake-ups. Answers
take SGLang 3 to 20 ms, so a question this much later makes no report noticeably older."""

MAX_PAUSE_S = 30.0
"""The longest pause between questions to a server that does not answer them: it may serve requests
all the same and be able to tell its loads again soon."""

_GOLDEN_RATIO = 0.6180339887498949
"""Its multiples, modulo 1, are spread evenly however many there are (Weyl)."""


class Line(Protocol):
    """Asks one server; `LoadLine` does."""

    def ask(self, path: str, api_key: str | None, on_answer: Callable[[Answer], None]) -> None:
        """Ask, and call `on_answer` later, once, unless `give_up` comes first."""
        ...

    def give_up(self) -> None:
        """Want no answer any more."""
        ...

    def close(self) -> None:
        """Give up, and close the connection."""
        ...


def next_poll_s(due_s: float, now_s: float, interval_s: float, num_failures: int) -> float:
    """Return when to ask again after the question due at `due_s` was answered, or failed.

    The phase is kept: times are `due_s` plus multiples of the pause, and those that passed
    meanwhile are left out. Each failure in a row doubles the pause.
    """
    pause_s = interval_s
    if num_failures:
        pause_s = min(interval_s * 2.0 ** min(num_failures, 16), max(interval_s, MAX_PAUSE_S))
    return due_s + pause_s * max(1, ceil((now_s - due_s) / pause_s))


class _Server:
    """One address, and the usable workers behind it: itself, or its data-parallel ranks."""

    __slots__ = (
        "due_s", "is_gone", "is_reported", "is_waiting", "line", "num_asked", "num_failures",
        "workers",
    )  # fmt: skip

    def __init__(self, line: Line, due_s: float) -> None:
        self.line = line
        self.due_s = due_s
        self.workers: list[Worker] = []
        self.num_asked = 0
        self.num_failures = 0
        """In a row."""
        self.is_gone = False
        self.is_waiting = False
        """For an answer."""
        self.is_reported = False
        """Whether people were told that its answers are of no use."""


class LoadPoller:
    """One question to a server at a time, so that they never pile up where answers are slow.

    Args:
        make_line: returns the way to a worker's server.
        on_report: told of every usable answer: the worker's id and what it says. What it raises
            is logged.
        interval_s: between two questions to a server. The scheduler corrects its own accounting
            by the answers; a second is some dozens of decode steps.
        timeout_s: later than this an answer is of no use.
    """

    def __init__(
        self,
        registry: Registry,
        make_line: Callable[[Worker], Line],
        on_report: OnReport,
        *,
        interval_s: float,
        timeout_s: float,
        clock: Clock,
    ) -> None:
        self._registry = registry
        self._make_line = make_line
        self._on_report = on_report
        self._interval_s = interval_s
        self._timeout_s = timeout_s
        self._now_s = clock.now_s
        self._servers: dict[str, _Server] = {}
        self._due: list[tuple[float, int, _Server]] = []
        """A heap; a server that waits for an answer is not in it."""
        self._asked: deque[tuple[float, int, _Server]] = deque()
        """When each question was asked and which of the server's it was, in this order."""
        self._num_scheduled = 0
        self._num_servers = 0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to follow the registry; needs a running event loop."""
        self._task = asyncio.create_task(self._run())
        self._registry.subscribe(self._follow)
        self._follow()

    async def stop(self) -> None:
        """Ask nobody any more, and close every connection."""
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._task = None
        for base_url in list(self._servers):
            self._leave(base_url)

    def _follow(self) -> None:
        """Ask the servers that are new and leave alone those that have no usable worker."""
        if self._task is None:
            return
        usable: dict[str, list[Worker]] = {}
        for role in Role:
            for worker in self._registry.usable(role):
                usable.setdefault(worker.base_url, []).append(worker)
        for base_url in self._servers.keys() - usable.keys():
            self._leave(base_url)
        for base_url, workers in usable.items():
            server = self._servers.get(base_url) or self._join(base_url, workers[0])
            server.workers = workers

    def _join(self, base_url: str, worker: Worker) -> _Server:
        phase = self._num_servers * _GOLDEN_RATIO % 1.0
        self._num_servers += 1
        due_s = self._now_s() + phase * self._interval_s
        server = self._servers[base_url] = _Server(self._make_line(worker), due_s)
        self._schedule(server)
        return server

    def _leave(self, base_url: str) -> None:
        server = self._servers.pop(base_url)
        server.is_gone = True
        server.line.close()

    def _schedule(self, server: _Server) -> None:
        self._num_scheduled += 1
        heappush(self._due, (server.due_s, self._num_scheduled, server))

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            try:
                self._tick()
            except Exception:
                # The root of a background task: whatever went wrong, the others stay asked.
                _log.exception("load_poll_crashed")

    def _tick(self) -> None:
        now_s = self._now_s()
        while self._asked and self._asked[0][0] <= now_s - self._timeout_s:
            _, number, server = self._asked.popleft()
            if server.is_waiting and server.num_asked == number:
                server.line.give_up()
                self._answered(server, Answer(failure=f"no answer within {self._timeout_s:g} s"))
        while self._due and self._due[0][0] <= now_s:
            server = heappop(self._due)[2]
            if not server.is_gone:
                self._ask(server, now_s)

    def _ask(self, server: _Server, now_s: float) -> None:
        server.is_waiting = True
        server.num_asked += 1
        self._asked.append((now_s, server.num_asked, server))
        api_key = server.workers[0].spec.api_key
        server.line.ask(LOADS_PATH, api_key, partial(self._answered, server))

    def _answered(self, server: _Server, answer: Answer) -> None:
        server.is_waiting = False
        if server.is_gone:
            return
        problem = self._tell(server, answer)
        server.num_failures = 0 if problem is None else server.num_failures + 1
        if problem is not None and not server.is_reported:
            # Told once: at every question, the log would say nothing else.
            server.is_reported = True
            _log.warning("loads_unknown", worker=server.workers[0].shown_url, reason=problem)
        server.due_s = next_poll_s(
            server.due_s, self._now_s(), self._interval_s, server.num_failures
        )
        self._schedule(server)

    def _tell(self, server: _Server, answer: Answer) -> str | None:
        """Pass an answer on; return what is wrong with it, or None."""
        if not answer.is_ok:
            return answer.problem
        ranks = parse_loads(answer.body)
        if isinstance(ranks, NoLoads):
            return ranks.reason
        missing: list[int | None] = []
        for worker in server.workers:
            report = load_of(ranks, worker.spec.dp_rank)
            if report is None:
                missing.append(worker.spec.dp_rank)
                continue
            try:
                self._on_report(worker.worker_id, report)
            except Exception:
                # The root of a callback: whatever went wrong, this server stays asked.
                _log.exception("load_report_crashed", worker=worker.shown_url)
        return f"nothing about data-parallel rank {missing}" if missing else None
