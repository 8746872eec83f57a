"""Keeps the book of pairs up to date: who is there, who fits whom, whose cooldown is over.

Workers are judged by what they said at registration. They are asked again from time to time, when
they come back, because another process may be behind the same address, and when a link of theirs
goes down, because that may be the reason.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterable
from random import Random

import structlog
from hfx_transfer.observer import ProbeOutcome
from hfx_transfer.sglang.pairs.compatibility import judge
from hfx_transfer.sglang.pairs.facts import PairingFacts

from hfx_router.workers.probe import NotReady, Refused
from hfx_router.workers.registry import Registry, is_usable
from hfx_router.workers.worker import Worker, WorkerSpec
from hfx_sgl.clock import Clock
from hfx_sgl.policy.pairs.book import PairBook, PairKey
from hfx_sgl.policy.pairs.link import Link, LinkState
from hfx_sgl.types import Role

_log = structlog.get_logger(__name__)

TICK_S = 0.25
"""How late a cooldown may end or a check begin; the shortest useful ones are seconds."""

SPACING_S = 1.0
"""The least pause between two checks of a server, however many of its links fail."""

_BACK = "one of the two has come back, and is being asked what it is"

ServerKey = tuple[str, Role]
"""All data-parallel ranks of one server in one role share their checks."""

FactsAnswer = PairingFacts | NotReady | Refused
AskFacts = Callable[[WorkerSpec, int | None], Awaitable[FactsAnswer]]


class _Server:
    """One address in one role, and the workers behind it: itself, or its data-parallel ranks."""

    __slots__ = ("asked_at_s", "due_s", "has_been_met", "is_usable", "task", "workers")

    def __init__(self, due_s: float) -> None:
        self.workers: list[Worker] = []
        self.is_usable = False
        self.asked_at_s = -math.inf
        self.due_s = due_s
        self.has_been_met = False
        """Whether its bootstrap server has ever answered this router."""
        self.task: asyncio.Task[None] | None = None
        """The check that is under way."""


class PairWatch:
    """See the module. Judges from its making on, so that no pair is chosen before it is judged.

    Args:
        ask: asks a worker for its side of its pairs; `Prober.pairing`.
        rng: spreads the checks, so that servers are not asked in lockstep.
        on_probed: told of every look at a bootstrap server.
        interval_s: between two checks of a server; `math.inf`: only when there is a reason.
        timeout_s: for one check. Pairs of a worker that has come back are not used for so long at
            most.
    """

    def __init__(
        self,
        registry: Registry,
        book: PairBook,
        ask: AskFacts,
        clock: Clock,
        rng: Random,
        on_probed: Callable[[ProbeOutcome], None],
        *,
        interval_s: float,
        timeout_s: float,
    ) -> None:
        self._registry = registry
        self._book = book
        self._ask = ask
        self._now_s = clock.now_s
        self._rng = rng
        self._on_probed = on_probed
        self._interval_s = interval_s
        self._timeout_s = timeout_s
        self._servers: dict[ServerKey, _Server] = {}
        self._task: asyncio.Task[None] | None = None
        registry.subscribe(self._follow)
        book.on_link_changed = self._link_changed

    def start(self) -> None:
        """Begin to ask, and to let cooldowns end; needs a running event loop."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Cancel every check and wait until they are gone."""
        tasks = [server.task for server in self._servers.values() if server.task is not None]
        if self._task is not None:
            tasks.append(self._task)
            self._task = None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- workers come and go ---

    def _follow(self) -> None:
        paired = [
            worker
            for worker in self._registry.workers
            if worker.is_probed and worker.role is not Role.REGULAR
        ]
        self._book.set_workers(_ids(paired, Role.PREFILL), _ids(paired, Role.DECODE))
        servers: dict[ServerKey, list[Worker]] = {}
        for worker in paired:
            servers.setdefault((worker.base_url, worker.role), []).append(worker)
        for key in self._servers.keys() - servers.keys():
            self._leave(key)
        for key, workers in servers.items():
            self._update(key, workers)

    def _leave(self, key: ServerKey) -> None:
        server = self._servers.pop(key)
        if server.task is not None:
            server.task.cancel()

    def _update(self, key: ServerKey, workers: list[Worker]) -> None:
        server = self._servers.get(key)
        is_new = server is None
        if server is None:
            server = self._servers[key] = _Server(self._next_due_s())
        has_changed = server.workers != workers
        server.workers = workers
        was_usable, server.is_usable = server.is_usable, any(map(is_usable, workers))
        if has_changed:
            self._heard(server, workers[0].pairing)
        if server.is_usable and not was_usable and not is_new:
            self._came_back(server)

    def _came_back(self, server: _Server) -> None:
        """Let nobody use its pairs before it has told whether it is what it was."""
        for worker in server.workers:
            self._book.renewed(worker.worker_id, self._now_s())
        self._book.judge(dict.fromkeys(self._pairs_of(server), _BACK))
        if server.task is not None:
            server.task.cancel()  # it may have asked who was there before
        self._check_soon(server)

    # --- asking ---

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            now_s = self._now_s()
            self._book.poll(now_s)
            for server in self._servers.values():
                if server.due_s <= now_s and server.task is None:
                    self._check_soon(server)

    def _next_due_s(self) -> float:
        return self._now_s() + self._interval_s * self._rng.uniform(0.75, 1.25)

    def _check_soon(self, server: _Server) -> None:
        server.asked_at_s = self._now_s()
        server.due_s = self._next_due_s()
        server.task = asyncio.get_running_loop().create_task(self._check(server))

    async def _check(self, server: _Server) -> None:
        answer: FactsAnswer
        try:
            worker = server.workers[0]
            async with asyncio.timeout(self._timeout_s):
                answer = await self._ask(worker.spec, worker.bootstrap_port)
        except TimeoutError:
            answer = Refused(reason=f"no answer within {self._timeout_s:g} s")
        except Exception as exc:
            # The root of a background task: whatever went wrong, its pairs must not stay barred.
            _log.exception("pair_check_crashed", worker=server.workers[0].shown_url)
            answer = Refused(reason=f"internal error: {type(exc).__name__}: {exc}")
        server.task = None
        if isinstance(answer, PairingFacts):
            for worker in server.workers:
                worker.pairing = answer
        elif isinstance(answer, NotReady) and server.workers[0].role is Role.PREFILL:
            self._on_probed(ProbeOutcome.NOT_READY)
        self._heard(server, answer if isinstance(answer, PairingFacts) else None)

    def _heard(self, server: _Server, facts: PairingFacts | None) -> None:
        """Judge its pairs anew; `facts` are fresh, if there are any."""
        problems = {}
        for key in self._pairs_of(server):
            problem = problems[key] = self._problem(key)
            if problem and self._book.problem(*key) in (None, _BACK):
                prefill, decode = map(self._shown, key)
                _log.warning("pair_incompatible", prefill=prefill, decode=decode, problem=problem)
        self._book.judge(problems)
        if facts is not None and server.workers[0].role is Role.PREFILL:
            self._probed(server, facts)

    def _probed(self, server: _Server, facts: PairingFacts) -> None:
        if facts.route is not None:
            self._on_probed(ProbeOutcome.REACHED)
        else:
            outcome = ProbeOutcome.UNKNOWN if facts.is_met else ProbeOutcome.UNREACHABLE
            self._on_probed(outcome)
        problem = ""
        if facts.is_met:
            server.has_been_met = True
        elif server.has_been_met:
            # Where the router has never reached it, that says nothing: the two workers may have a
            # network of their own.
            problem = f"the prefill worker's bootstrap port does not answer: {facts.route_problem}"
        else:
            return
        for worker in server.workers:
            self._book.probed(worker.worker_id, problem, self._now_s())

    # --- pairs ---

    def _pairs_of(self, server: _Server) -> list[PairKey]:
        others = [
            worker
            for worker in self._registry.workers
            if worker.is_probed and worker.role not in (Role.REGULAR, server.workers[0].role)
        ]
        if server.workers[0].role is Role.PREFILL:
            return [(one.worker_id, other.worker_id) for one in server.workers for other in others]
        return [(other.worker_id, one.worker_id) for one in server.workers for other in others]

    def _problem(self, key: PairKey) -> str:
        prefill, decode = map(self._registry.get, key)
        if prefill is None or decode is None or prefill.pairing is None or decode.pairing is None:
            return ""
        return judge(prefill.pairing, decode.pairing).problem

    def _link_changed(self, key: PairKey, before: LinkState, link: Link) -> None:
        if before is LinkState.UNKNOWN and link.state is LinkState.OK:
            return  # the first request of every pair
        prefill, decode = map(self._shown, key)
        _log.info(
            "pair_link_changed",
            prefill=prefill,
            decode=decode,
            before=before,
            state=link.state,
            reason=link.reason,
        )
        if link.state is LinkState.DOWN:
            for server in self._servers.values():
                if any(worker.worker_id in key for worker in server.workers):
                    server.due_s = min(server.due_s, server.asked_at_s + SPACING_S)

    def _shown(self, worker_id: str) -> str:
        worker = self._registry.get(worker_id)
        return worker_id if worker is None else worker.shown_url


def _ids(workers: Iterable[Worker], role: Role) -> frozenset[str]:
    return frozenset(worker.worker_id for worker in workers if worker.role is role)
