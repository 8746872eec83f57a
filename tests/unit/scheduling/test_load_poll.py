"""Who is asked when, and who is told what."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import orjson
import pytest
from hfx_router.scheduling.load_answer import LOADS_PATH
from hfx_router.scheduling.load_poll import MAX_PAUSE_S, TICK_S, LoadPoller, next_poll_s
from hfx_router.workers.ask import Answer
from hfx_router.workers.registry import Registry
from hfx_router.workers.worker import Worker, WorkerSpec
from structlog.testing import capture_logs
from support.virtual_loop import VirtualLoop

from hfx_sgl.policy.breaker import BreakerConfig
from hfx_sgl.policy.health import HealthConfig
from hfx_sgl.policy.scheduler.facts import WorkerReport
from hfx_sgl.types import Role


class LoopClock:
    """The clock of the running loop."""

    def now_s(self) -> float:
        return asyncio.get_running_loop().time()


def entry(dp_rank: int = 0, num_tokens: int = 7) -> dict[str, Any]:
    return {
        "dp_rank": dp_rank,
        "num_running_reqs": 1,
        "num_active_tokens": 100,
        "total_prefill_uncached_tokens": num_tokens,
        "total_prefill_busy_us": 1000,
    }


def loads(*entries: dict[str, Any]) -> Answer:
    return Answer(status=200, body=orjson.dumps({"loads": entries}))


GOOD = loads(entry())


@dataclass
class FakeLine:
    """Answers after `delay_s`; None: never."""

    answer: Answer = GOOD
    delay_s: float | None = 0.005
    asked_s: list[float] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    num_given_up: int = 0
    is_closed: bool = False
    timer: asyncio.TimerHandle | None = None

    def ask(self, path: str, api_key: str | None, on_answer: Callable[[Answer], None]) -> None:
        assert path == LOADS_PATH
        assert self.timer is None, "a question is under way"
        assert not self.is_closed
        loop = asyncio.get_running_loop()
        self.asked_s.append(loop.time())
        self.keys.append(api_key)
        delay_s = 1e6 if self.delay_s is None else self.delay_s
        self.timer = loop.call_later(delay_s, self.end, on_answer)

    def end(self, on_answer: Callable[[Answer], None]) -> None:
        self.timer = None
        on_answer(self.answer)

    def give_up(self) -> None:
        assert self.timer is not None
        self.timer.cancel()
        self.timer = None
        self.num_given_up += 1

    def close(self) -> None:
        self.is_closed = True
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


class World:
    """A poller in front of fake servers, on virtual time."""

    def __init__(self, *, interval_s: float = 1.0, timeout_s: float = 5.0) -> None:
        self.registry = Registry(
            LoopClock(), BreakerConfig(), HealthConfig(), on_left=lambda worker: None
        )
        self.lines: dict[str, FakeLine] = {}
        self.told: list[tuple[str, WorkerReport]] = []
        self.on_report: Callable[[str], None] = lambda worker_id: None
        self.poller = LoadPoller(
            self.registry,
            self.line,
            self.report,
            interval_s=interval_s,
            timeout_s=timeout_s,
            clock=LoopClock(),
        )

    def line(self, worker: Worker) -> FakeLine:
        known = self.lines.get(worker.base_url)
        if known is None or known.is_closed:
            known = self.lines[worker.base_url] = FakeLine()
        return known

    def report(self, worker_id: str, report: WorkerReport) -> None:
        self.told.append((worker_id, report))
        self.on_report(worker_id)

    def add(self, url: str, **given: Any) -> Worker:
        spec = WorkerSpec(url=url, **given)
        worker = self.registry.new_worker(f"{url}@{spec.dp_rank}", spec)
        worker.is_probed = True
        self.registry.add(worker)
        return worker


def run_virtual(main: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(main)


def test_each_server_is_asked_each_interval_in_a_phase_of_its_own() -> None:
    async def main() -> None:
        world = World(interval_s=2.0)
        for n in range(8):
            world.add(f"http://w{n}:1")
        world.poller.start()
        await asyncio.sleep(21)
        await world.poller.stop()
        phases_s = []
        for line in world.lines.values():
            assert 10 <= len(line.asked_s) <= 11
            phases_s.append(line.asked_s[0])
            steps_s = [b - a for a, b in pairwise(line.asked_s)]
            assert steps_s == pytest.approx([2.0] * len(steps_s), abs=1.01 * TICK_S)
        assert max(phases_s) < 2.0 + TICK_S
        # Eight servers over two seconds: 0.25 s apart when perfectly even.
        assert min(b - a for a, b in pairwise(sorted(phases_s))) > 0.1
        assert len(world.told) == sum(len(line.asked_s) for line in world.lines.values())

    run_virtual(main())


def test_the_answer_comes_with_the_worker_it_is_of() -> None:
    async def main() -> None:
        world = World()
        first = world.add("http://a:1", role=Role.PREFILL, api_key="secret")
        second = world.add("http://b:1", role=Role.DECODE)
        world.poller.start()
        world.lines["http://b:1"].answer = loads(entry(num_tokens=11))
        await asyncio.sleep(0.99)
        await world.poller.stop()
        told = {worker_id: report.num_prefill_tokens for worker_id, report in world.told}
        assert told == {first.worker_id: 7, second.worker_id: 11}
        assert world.lines["http://a:1"].keys == ["secret"]
        assert world.lines["http://b:1"].keys == [None]

    run_virtual(main())


def test_ranks_of_one_server_share_a_question() -> None:
    async def main() -> None:
        world = World()
        ranks = [world.add("http://a:1", dp_rank=rank) for rank in range(3)]
        world.poller.start()
        line = world.lines["http://a:1"]
        line.answer = loads(entry(1, 21), entry(0, 20))
        with capture_logs() as logs:
            await asyncio.sleep(0.99)
        await world.poller.stop()
        assert len(line.asked_s) == 1
        told = [(worker_id, report.num_prefill_tokens) for worker_id, report in world.told]
        assert told == [(ranks[0].worker_id, 20), (ranks[1].worker_id, 21)]
        assert [(log["event"], log["log_level"]) for log in logs] == [("loads_unknown", "warning")]
        assert "[2]" in logs[0]["reason"]

    run_virtual(main())


def test_questions_never_pile_up_and_the_phase_stays() -> None:
    async def main() -> None:
        world = World(interval_s=1.0, timeout_s=5.0)
        world.add("http://slow:1")
        world.poller.start()
        line = world.lines["http://slow:1"]
        line.delay_s = 2.5  # the line itself objects to a second question
        await asyncio.sleep(9.9)
        await world.poller.stop()
        assert line.asked_s == pytest.approx([0.0, 3.0, 6.0, 9.0], abs=2 * TICK_S)
        assert len(world.told) == 3

    run_virtual(main())


def test_an_answer_that_is_too_late_is_given_up() -> None:
    async def main() -> None:
        world = World(interval_s=1.0, timeout_s=1.5)
        world.add("http://stuck:1")
        world.poller.start()
        line = world.lines["http://stuck:1"]
        line.delay_s = None
        with capture_logs() as logs:
            await asyncio.sleep(3.0)
        assert line.num_given_up == 1
        assert [log["reason"] for log in logs] == ["no answer within 1.5 s"]
        line.delay_s = 0.005
        await asyncio.sleep(5.0)
        await world.poller.stop()
        assert world.told
        assert line.num_given_up <= 2

    run_virtual(main())


def test_failures_back_off_and_success_returns_to_the_interval() -> None:
    async def main() -> None:
        world = World(interval_s=1.0)
        world.add("http://old:1")
        world.poller.start()
        line = world.lines["http://old:1"]
        line.answer = Answer(status=404)
        with capture_logs() as logs:
            await asyncio.sleep(200)
        steps_s = [b - a for a, b in pairwise(line.asked_s)]
        assert steps_s[:5] == pytest.approx([2, 4, 8, 16, 30], abs=2 * TICK_S)
        assert max(steps_s) < MAX_PAUSE_S + 2 * TICK_S
        assert [log["reason"] for log in logs] == ["answered 404"]
        assert world.told == []
        line.answer = GOOD
        await asyncio.sleep(32)
        num_before = len(world.told)
        await asyncio.sleep(10)
        await world.poller.stop()
        assert len(world.told) - num_before == 10

    run_virtual(main())


@pytest.mark.parametrize(
    "answer",
    [
        Answer(failure="no answer (connect)"),
        Answer(status=500),
        Answer(status=200, body=b"not json"),
        loads({"dp_rank": 0, "num_running_reqs": 1}),
        loads(),
    ],
)
def test_a_useless_answer_is_told_to_people_once_and_to_nobody_else(answer: Answer) -> None:
    async def main() -> None:
        world = World()
        world.add("http://a:1")
        world.poller.start()
        line = world.lines["http://a:1"]
        line.answer = answer
        with capture_logs() as logs:
            await asyncio.sleep(10)
        await world.poller.stop()
        assert len(line.asked_s) > 2
        assert world.told == []
        assert [(log["event"], log["worker"]) for log in logs] == [("loads_unknown", "http://a:1")]

    run_virtual(main())


def test_a_listener_that_raises_is_logged_and_asked_on() -> None:
    async def main() -> None:
        world = World()
        world.add("http://a:1")

        def boom(worker_id: str) -> None:
            raise RuntimeError("boom")

        world.on_report = boom
        world.poller.start()
        with capture_logs() as logs:
            await asyncio.sleep(2.9)
        await world.poller.stop()
        assert len(world.told) == 3
        assert [log["event"] for log in logs] == ["load_report_crashed"] * 3

    run_virtual(main())


def test_only_usable_workers_are_asked() -> None:
    async def main() -> None:
        world = World()
        stays, leaves = world.add("http://a:1"), world.add("http://b:1")
        world.poller.start()
        line = world.lines["http://b:1"]
        line.delay_s = 0.5
        await asyncio.sleep(0.7)  # b's question is under way
        assert len(line.asked_s) == 1
        world.registry.drain(leaves)
        assert line.is_closed
        await asyncio.sleep(3)
        assert len(line.asked_s) == 1
        assert {worker_id for worker_id, _ in world.told} == {stays.worker_id}
        late = world.add("http://c:1")
        await asyncio.sleep(1.1)
        assert world.told[-1][0] in {stays.worker_id, late.worker_id}
        assert world.lines["http://c:1"].asked_s
        await world.poller.stop()
        assert all(each.is_closed for each in world.lines.values())

    run_virtual(main())


def test_who_leaves_between_two_questions_is_asked_no_more_and_may_come_back() -> None:
    async def main() -> None:
        world = World()
        worker = world.add("http://a:1")
        world.poller.start()
        first = world.lines["http://a:1"]
        with capture_logs() as logs:
            await asyncio.sleep(0.5)
            for _ in range(3):
                world.registry.record_check(worker, is_alive=False)
            await asyncio.sleep(5)
            assert (len(first.asked_s), first.is_closed) == (1, True)
            for _ in range(2):
                world.registry.record_check(worker, is_alive=True)
            await asyncio.sleep(1.5)
        second = world.lines["http://a:1"]
        assert second is not first
        assert second.asked_s
        assert "load_poll_crashed" not in {log["event"] for log in logs}
        await world.poller.stop()

    run_virtual(main())


def test_a_question_that_cannot_be_asked_stops_nobody_else() -> None:
    class Broken(FakeLine):
        def ask(self, path: str, api_key: str | None, on_answer: Callable[[Answer], None]) -> None:
            raise ValueError("broken")

    async def main() -> None:
        world = World()
        world.lines["http://broken:1"] = Broken()
        world.add("http://broken:1")
        world.add("http://good:1")
        world.poller.start()
        with capture_logs() as logs:
            await asyncio.sleep(5)
        await world.poller.stop()
        assert [log["event"] for log in logs] == ["load_poll_crashed"]
        assert len(world.told) >= 4

    run_virtual(main())


def test_nothing_goes_on_after_a_stop() -> None:
    async def main() -> None:
        world = World()
        world.add("http://a:1")
        await world.poller.stop()  # before it was started
        world.poller.start()
        await asyncio.sleep(1.5)
        await world.poller.stop()
        num_asked = len(world.lines["http://a:1"].asked_s)
        world.add("http://late:1")
        await asyncio.sleep(5)
        assert len(world.lines["http://a:1"].asked_s) == num_asked
        assert set(world.lines) == {"http://a:1"}
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run_virtual(main())


@pytest.mark.parametrize(
    ("now_s", "num_failures", "expected_s"),
    [
        (10.0, 0, 11.0),
        (10.9, 0, 11.0),
        (11.0, 0, 11.0),
        (11.1, 0, 12.0),
        (15.5, 0, 16.0),
        (10.1, 1, 12.0),
        (12.1, 1, 14.0),
        (10.1, 3, 18.0),
        (10.1, 5, 40.0),
        (10.1, 5000, 40.0),
    ],
)
def test_next_poll(now_s: float, num_failures: int, expected_s: float) -> None:
    assert next_poll_s(10.0, now_s, 1.0, num_failures) == expected_s


def test_a_long_interval_is_no_shorter_after_a_failure() -> None:
    assert next_poll_s(0.0, 1.0, 100.0, 3) == 100.0
