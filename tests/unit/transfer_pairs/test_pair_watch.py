"""Who is asked when, and that no pair is used that has not been judged."""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest
from hfx_router.pairs.watch import SPACING_S, TICK_S, PairWatch
from hfx_router.workers.probe import NotReady, Refused
from hfx_router.workers.registry import Registry
from hfx_router.workers.worker import Worker, WorkerSpec
from hfx_transfer.observer import ProbeOutcome
from hfx_transfer.sglang.pairs.facts import PairingFacts, RouteFacts, ServerFacts
from structlog.testing import capture_logs
from support.virtual_loop import VirtualLoop

from hfx_sgl.policy.breaker import BreakerConfig
from hfx_sgl.policy.health import HealthConfig
from hfx_sgl.policy.pairs.book import PairBook
from hfx_sgl.policy.pairs.link import LinkConfig, LinkState
from hfx_sgl.types import Role

INTERVAL_S, TIMEOUT_S = 60.0, 2.0
Answer = PairingFacts | NotReady | Refused


def facts(page_size: int = 1, *, route: bool = False, is_met: bool = True) -> PairingFacts:
    return PairingFacts(
        server=ServerFacts(page_size=page_size),
        route=RouteFacts(page_size=page_size) if route else None,
        route_problem="" if route or is_met else "refused",
        is_met=is_met,
    )


class LoopClock:
    """The clock of the running loop; 0 where none runs."""

    def now_s(self) -> float:
        try:
            return asyncio.get_running_loop().time()
        except RuntimeError:
            return 0.0


@dataclass
class Scene:
    """A registry with one prefill and two decode workers, and the watch over their pairs."""

    answers: dict[str, Answer] = field(default_factory=dict)
    """What a worker says when it is asked again, by its id."""
    raising: set[str] = field(default_factory=set)
    answer_s: float = 0.01
    asked: list[tuple[str, float]] = field(default_factory=list)
    probes: list[ProbeOutcome] = field(default_factory=list)

    def __post_init__(self) -> None:
        clock = LoopClock()
        self.registry = Registry(
            clock,
            BreakerConfig(),
            HealthConfig(failure_threshold=1, success_threshold=1),
            lambda worker: None,
        )
        self.book = PairBook(LinkConfig(failure_threshold=1, cooldown_s=5.0))
        self.watch = PairWatch(
            self.registry,
            self.book,
            self._ask,
            clock,
            Random(1),
            self.probes.append,
            interval_s=INTERVAL_S,
            timeout_s=TIMEOUT_S,
        )

    async def _ask(self, spec: WorkerSpec, bootstrap_port: int | None) -> Answer:
        worker_id = spec.url.removeprefix("http://").removesuffix(":1")
        self.asked.append((worker_id, asyncio.get_running_loop().time()))
        await asyncio.sleep(self.answer_s)
        if worker_id in self.raising:
            raise RuntimeError("boom")
        return self.answers[worker_id]

    def add(self, worker_id: str, role: Role, said: PairingFacts | None) -> Worker:
        spec = WorkerSpec(url=f"http://{worker_id}:1", role=role)
        worker = self.registry.new_worker(worker_id, spec)
        worker.pairing = said
        worker.is_probed = True
        self.registry.add(worker)
        if said is not None:
            self.answers.setdefault(worker_id, said)
        return worker

    def usual(self) -> list[Worker]:
        return [
            self.add("p", Role.PREFILL, facts(route=True)),
            self.add("d", Role.DECODE, facts()),
            self.add("e", Role.DECODE, facts()),
        ]

    def run(self, play: Coroutine[Any, Any, None]) -> None:
        async def whole() -> None:
            self.watch.start()
            await play
            await self.watch.stop()
            assert asyncio.all_tasks() == {asyncio.current_task()}

        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            runner.run(whole())


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_a_pair_is_judged_as_its_second_worker_joins(scene: Scene) -> None:
    scene.add("p", Role.PREFILL, facts(16, route=True))
    scene.add("d", Role.DECODE, facts(16))
    assert scene.book.barred == {}
    with capture_logs() as logs:
        scene.add("e", Role.DECODE, facts(1))
    assert scene.book.barred == {"p": {"e"}}
    assert scene.book.problem("p", "e") == "page_size: prefill 16, decode 1"
    assert [line["event"] for line in logs].count("pair_incompatible") == 1
    assert scene.asked == [], "what was said at registration suffices"


def test_workers_that_say_nothing_and_unified_ones_are_let_be(scene: Scene) -> None:
    scene.add("p", Role.PREFILL, None)
    scene.add("d", Role.DECODE, None)
    scene.add("u", Role.REGULAR, None)
    assert scene.book.barred == {}
    assert sum(scene.book.counts().values()) == 1


def test_a_worker_that_is_removed_leaves_the_book(scene: Scene) -> None:
    scene.usual()
    scene.registry.remove("d")
    assert sum(scene.book.counts().values()) == 1


def test_every_server_is_asked_again_each_interval(scene: Scene) -> None:
    scene.usual()

    async def play() -> None:
        await asyncio.sleep(6 * INTERVAL_S)

    scene.run(play())
    for worker_id in "pde":
        times_s = [at_s for asked, at_s in scene.asked if asked == worker_id]
        assert 4 <= len(times_s) <= 8
        assert times_s[0] >= 0.75 * INTERVAL_S
    assert len({at_s for _, at_s in scene.asked}) > len(scene.asked) / 2, "not in lockstep"


def test_what_a_server_has_become_is_found_at_the_next_look(scene: Scene) -> None:
    scene.usual()
    scene.answers["d"] = facts(16)

    async def play() -> None:
        await asyncio.sleep(0.7 * INTERVAL_S)
        assert scene.book.barred == {}
        await asyncio.sleep(INTERVAL_S)
        assert scene.book.barred == {"p": {"d"}}
        scene.answers["d"] = facts(1)
        await asyncio.sleep(1.5 * INTERVAL_S)
        assert scene.book.barred == {}

    scene.run(play())


def test_a_worker_that_comes_back_is_not_used_before_it_has_told_what_it_is(scene: Scene) -> None:
    _, decode, _ = scene.usual()
    scene.answers["d"] = facts(16)
    scene.answer_s = 1.0

    async def play() -> None:
        scene.book.succeeded("p", "d", 0.0)
        scene.registry.record_check(decode, is_alive=False)
        assert scene.book.barred == {}
        scene.registry.record_check(decode, is_alive=True)
        assert scene.book.barred == {"p": {"d"}}
        assert "come back" in str(scene.book.problem("p", "d"))
        assert scene.book.standing("p", "d").state is LinkState.UNKNOWN
        await asyncio.sleep(1.1)
        assert scene.book.problem("p", "d") == "page_size: prefill 1, decode 16"
        assert [worker_id for worker_id, _ in scene.asked] == ["d"]

    scene.run(play())


@pytest.mark.parametrize("how", ["fits", "silent", "refuses", "crashes"])
def test_and_it_is_used_again_soon_whatever_it_answers(scene: Scene, how: str) -> None:
    _, decode, _ = scene.usual()
    if how == "silent":
        scene.answer_s = 1e6
    elif how == "refuses":
        scene.answers["d"] = Refused(reason="no")
    elif how == "crashes":
        scene.raising.add("d")

    async def play() -> None:
        scene.registry.record_check(decode, is_alive=False)
        scene.registry.record_check(decode, is_alive=True)
        assert scene.book.barred == {"p": {"d"}}
        await asyncio.sleep(TIMEOUT_S + 0.1)
        assert scene.book.barred == {}

    scene.run(play())


def test_coming_back_during_a_look_asks_anew(scene: Scene) -> None:
    _, decode, _ = scene.usual()
    scene.answer_s = 0.5

    async def play() -> None:
        for _ in range(2):
            scene.registry.record_check(decode, is_alive=False)
            scene.registry.record_check(decode, is_alive=True)
            await asyncio.sleep(0.3)
        assert scene.book.barred == {"p": {"d"}}, "the first answer was about who was there before"
        await asyncio.sleep(0.3)
        assert scene.book.barred == {}
        assert len(scene.asked) == 2

    scene.run(play())


def test_a_link_that_goes_down_has_both_servers_looked_at(scene: Scene) -> None:
    scene.usual()
    scene.answers["p"] = facts(16, route=True)

    async def play() -> None:
        scene.book.failed("p", "d", "handshake failed", asyncio.get_running_loop().time())
        await asyncio.sleep(SPACING_S + 2 * TICK_S)
        assert {worker_id for worker_id, _ in scene.asked} == {"p", "d"}
        assert scene.book.problem("p", "e") == "page_size: prefill 16, decode 1"

    scene.run(play())


def test_however_many_links_fail_a_server_is_looked_at_once_a_second(scene: Scene) -> None:
    scene.usual()

    async def play() -> None:
        for _ in range(100):
            now_s = asyncio.get_running_loop().time()
            scene.book.failed("p", "d", "broken", now_s)
            scene.book.renewed("p", now_s)
            await asyncio.sleep(0.05)

    scene.run(play())
    assert len(scene.asked) <= 2 * (5.0 / SPACING_S + 1)


def test_the_ranks_of_one_server_are_asked_together_and_judged_each(scene: Scene) -> None:
    scene.add("d", Role.DECODE, facts())
    ranks = []
    for rank in range(2):
        spec = WorkerSpec(url="http://p:1", role=Role.PREFILL, dp_rank=rank)
        worker = scene.registry.new_worker(f"p@{rank}", spec)
        worker.pairing = facts(route=True)
        worker.is_probed = True
        ranks.append(worker)
        scene.registry.add(worker)
    scene.answers["p"] = facts(16, route=True)

    async def play() -> None:
        await asyncio.sleep(1.3 * INTERVAL_S)

    scene.run(play())
    assert [worker_id for worker_id, _ in scene.asked].count("p") == 1
    assert scene.book.barred == {"p@0": {"d"}, "p@1": {"d"}}
    assert ranks[0].pairing is ranks[1].pairing


def test_a_cooldown_ends_by_itself(scene: Scene) -> None:
    scene.usual()

    async def play() -> None:
        scene.book.failed("p", "d", "broken", asyncio.get_running_loop().time())
        await asyncio.sleep(4.9)
        assert scene.book.barred == {"p": {"d"}}
        await asyncio.sleep(0.1 + 2 * TICK_S)
        assert scene.book.barred == {}
        assert scene.book.has_due

    scene.run(play())


def test_a_bootstrap_port_that_falls_silent_casts_doubt_until_it_answers(scene: Scene) -> None:
    scene.usual()
    scene.answers["p"] = facts(is_met=False)

    async def play() -> None:
        await asyncio.sleep(1.5 * INTERVAL_S)
        assert scene.book.counts()["suspect"] == 2
        assert "does not answer: refused" in scene.book.standing("p", "d").reason
        assert scene.book.barred == {}
        scene.answers["p"] = facts(route=True)
        await asyncio.sleep(1.5 * INTERVAL_S)
        assert scene.book.counts()["suspect"] == 0

    scene.run(play())
    assert scene.probes[:2] == [ProbeOutcome.REACHED, ProbeOutcome.UNREACHABLE]


def test_one_that_the_router_never_reached_is_not_held_against_the_link(scene: Scene) -> None:
    scene.add("p", Role.PREFILL, facts(is_met=False))
    scene.add("d", Role.DECODE, facts())

    async def play() -> None:
        await asyncio.sleep(3 * INTERVAL_S)

    scene.run(play())
    assert scene.book.counts()["unknown"] == 1
    assert set(scene.probes) == {ProbeOutcome.UNREACHABLE}


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (facts(route=True), ProbeOutcome.REACHED),
        (facts(), ProbeOutcome.UNKNOWN),
        (NotReady(reason="0 registered"), ProbeOutcome.NOT_READY),
    ],
)
def test_looks_at_bootstrap_servers_are_counted(
    scene: Scene, answer: Answer, outcome: ProbeOutcome
) -> None:
    scene.usual()
    scene.answers["p"] = answer

    async def play() -> None:
        await asyncio.sleep(1.3 * INTERVAL_S)

    scene.run(play())
    assert scene.probes[1:] == [outcome] * (len(scene.probes) - 1)
    assert len(scene.probes) > 1
