"""The simulator does what the scheduler decides: it sends, takes back and turns away."""

from collections.abc import Mapping, Sequence

import pytest
from support.scripted_scheduler import ScriptedScheduler, dispatch, recall, rejection
from support.simulated import linear_profile, planned

from hfx_sgl.policy.scheduler.facts import Action
from hfx_sgl.results.record import RequestRecord, Status
from hfx_sgl.sim import slo_router
from hfx_sgl.sim.request import SimRequest
from hfx_sgl.sim.simulation import Simulation
from hfx_sgl.sim.sink import MemorySink
from hfx_sgl.sim.slo_router import SloRouter
from hfx_sgl.sim.spec import SimSpec
from hfx_sgl.sim.worker import Pools, make_workers
from hfx_sgl.types import Role
from hfx_sgl.workload.planned import PlannedRequest

NETWORK_S = 0.001
PAIRS = SimSpec(num_prefill=2, num_decode=2, network_s=NETWORK_S, sample_interval_s=None)
UNIFIED = SimSpec(num_workers=2, network_s=NETWORK_S, sample_interval_s=None)
LONG = 20_000
"""A prompt that keeps a worker busy for 0.4 s."""


class Rig:
    """A simulation whose scheduler follows a script: actions by instant."""

    def __init__(self, spec: SimSpec, monkeypatch: pytest.MonkeyPatch) -> None:
        self.scheduler = ScriptedScheduler()
        monkeypatch.setattr(slo_router, "Scheduler", lambda config, models: self.scheduler)
        self.spec = spec
        self.pools: Pools = make_workers(spec, linear_profile())
        self.router = SloRouter(self.pools)

    def run(
        self, requests: Sequence[PlannedRequest], script: Mapping[float, list[Action]]
    ) -> list[RequestRecord]:
        """Return the records; every in-flight count must have come back to zero."""
        left = dict(script)
        self.scheduler.alarms_s = sorted(left)

        def decide(now_s: float) -> list[Action]:
            due = [at_s for at_s in sorted(left) if at_s <= now_s]
            return [action for at_s in due for action in left.pop(at_s)]

        self.scheduler.decide = decide
        sink = MemorySink()
        Simulation(self.spec, self.pools, self.router, requests, sink).run()
        assert not left
        workers = [worker for pool in self.pools.values() for worker in pool]
        assert [worker.num_inflight for worker in workers] == [0] * len(workers)
        assert all(worker.engine.is_idle for worker in workers)
        return list(sink.records)


def test_decisions_come_when_they_are_due(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(UNIFIED, monkeypatch)
    (record,) = rig.run([planned(0, 1.0)], {1.5: [dispatch("r0", "regular-1")]})
    assert (record.status, record.worker) == (Status.OK, "regular-1")
    assert record.ttft_s is not None
    assert 0.5 + 2 * NETWORK_S < record.ttft_s < 0.52
    assert rig.scheduler.ended == [("r0", 10)]


def test_a_rejected_request_is_a_miss_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(UNIFIED, monkeypatch)
    requests = [planned(0, 1.0), planned(1, 1.0)]
    first, second = rig.run(requests, {1.0: [rejection("r1")], 1.25: [dispatch("r0", "regular-0")]})
    assert first.status is Status.OK
    assert (second.status, second.error) == (Status.REJECTED, "slo_infeasible")
    assert (second.worker, second.ttft_s, second.is_attained) == (None, None, False)
    assert [request_id for request_id, _ in rig.scheduler.ended] == ["r0"]


def test_a_run_ends_when_everybody_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(UNIFIED, monkeypatch)
    records = rig.run([planned(0, 1.0)], {40.0: [rejection("r0")]})
    assert [record.status for record in records] == [Status.REJECTED]


@pytest.mark.parametrize(
    ("spec", "first", "second"),
    [
        (UNIFIED, ("regular-0", None), ("regular-1", None)),
        (UNIFIED, ("regular-0", None), ("regular-0", None)),
        (PAIRS, ("decode-0", "prefill-0"), ("decode-1", "prefill-1")),
        (PAIRS, ("decode-0", "prefill-0"), ("decode-0", "prefill-1")),
        (PAIRS, ("decode-0", "prefill-0"), ("decode-0", "prefill-0")),
    ],
    ids=["elsewhere", "same worker", "other pair", "same decode", "same pair"],
)
@pytest.mark.parametrize("held_s", [0.0005, 0.0045, 0.25], ids=["on its way", "early", "waiting"])
def test_a_recalled_request_is_answered_where_it_goes_next(
    spec: SimSpec,
    first: tuple[str, str | None],
    second: tuple[str, str | None],
    held_s: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It waits behind a long prompt, at any point of its way, when it is taken back."""
    rig = Rig(spec, monkeypatch)
    requests = [planned(0, 1.0, prompt_tokens=LONG), planned(1, 1.0)]
    sent_s = 1.0625
    script: dict[float, list[Action]] = {
        1.0: [dispatch("r0", *first)],
        sent_s: [dispatch("r1", *first)],
        sent_s + held_s: [recall("r1"), dispatch("r1", *second)],
    }
    long, record = rig.run(requests, script)
    assert {long.status, record.status} == {Status.OK}
    assert (record.worker, record.prefill_worker) == second
    assert (long.worker, long.prefill_worker) == first
    assert record.output_tokens == 10
    assert sorted(rig.scheduler.ended) == [("r0", 10), ("r1", 10)]
    is_elsewhere = first[1] != second[1] if first[1] else first[0] != second[0]
    assert record.ttft_s is not None
    assert (record.ttft_s < 0.0625 + held_s + 0.05) is is_elsewhere


def test_a_recalled_request_takes_nobodys_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker that it was taken from does not compute it."""
    rig = Rig(UNIFIED, monkeypatch)
    requests = [planned(0, 1.0, prompt_tokens=LONG), planned(1, 1.0, prompt_tokens=LONG)]
    rig.run(
        requests,
        {
            1.0: [dispatch("r0", "regular-0"), dispatch("r1", "regular-0")],
            1.0625: [recall("r1"), dispatch("r1", "regular-1")],
        },
    )
    computed = [
        worker.engine.load(9.0).total_prefill_uncached_tokens for worker in rig.pools[Role.REGULAR]
    ]
    assert computed == [LONG, LONG]


def test_what_has_ended_cannot_be_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A recall that crosses the end of the answer: the answer counts, and nothing is sent again."""
    rig = Rig(UNIFIED, monkeypatch)
    (record,) = rig.run([planned(0, 1.0)], {1.0: [dispatch("r0", "regular-0")]})
    assert record.e2e_s is not None
    crossing_s = 1.0 + record.e2e_s - NETWORK_S / 2

    rig = Rig(UNIFIED, monkeypatch)
    script: dict[float, list[Action]] = {
        1.0: [dispatch("r0", "regular-0")],
        crossing_s: [recall("r0")],
    }
    assert rig.run([planned(0, 1.0)], script) == [record]
    assert rig.scheduler.ended == [("r0", None)]


def test_engines_hear_of_the_priority(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two that wait for an engine, the later one has the higher priority."""
    for has_priority, order in ((True, ["r2", "r1"]), (False, ["r1", "r2"])):
        spec = SimSpec(num_workers=1, engine={"has_priority": has_priority}, sample_interval_s=None)
        rig = Rig(spec, monkeypatch)
        requests = [planned(i, 1.0, prompt_tokens=LONG if i == 0 else 9_000) for i in range(3)]
        script: dict[float, list[Action]] = {
            1.0: [dispatch("r0", "regular-0")],
            1.1: [dispatch("r1", "regular-0", None, -8), dispatch("r2", "regular-0", None, -5)],
        }
        records = rig.run(requests, script)[1:]
        ordered = sorted(records, key=lambda record: record.ttft_s or 0.0)
        assert [record.request_id for record in ordered] == order


def test_a_request_that_is_refused_teaches_no_length(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = SimSpec(num_workers=1, engine={"max_queued_requests": 1}, sample_interval_s=None)
    rig = Rig(spec, monkeypatch)
    requests = [planned(i, 1.0, prompt_tokens=LONG) for i in range(4)]
    records = rig.run(requests, {1.0: [dispatch(f"r{i}", "regular-0") for i in range(4)]})
    refused = {record.request_id for record in records if record.status is Status.REJECTED}
    assert refused
    told = dict(rig.scheduler.ended)
    assert {request_id for request_id, num in told.items() if num is None} == refused
    assert {num for request_id, num in told.items() if request_id not in refused} == {10}


def test_what_happens_at_one_instant_is_decided_about_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rig = Rig(UNIFIED, monkeypatch)
    asked: list[tuple[float, int]] = []

    def decide(now_s: float) -> list[Action]:
        asked.append((now_s, len(rig.scheduler.arrived)))
        return [rejection(facts.request_id) for facts in rig.scheduler.arrived]

    rig.scheduler.decide = decide
    sink = MemorySink()
    Simulation(rig.spec, rig.pools, rig.router, [planned(i, 1.5) for i in range(3)], sink).run()
    assert asked[-1] == (1.5, 3)
    assert len([at_s for at_s, _ in asked if at_s == 1.5]) == 1


def test_a_request_goes_by_another_name_after_a_recall() -> None:
    request = planned(0, 1.0)
    assert SimRequest(0, request).engine_id == "r0"
    again = SimRequest(0, request, 2)
    assert again.engine_id == again.for_engine().request_id == "r0~2"
