import math
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from support.played_cluster import PlayedCluster
from support.scheduling import PAIRS, UNIFIED, plain_models, plain_scheduler, request, worker

from hfx_sgl.policy.scheduler.config import OnInfeasible, SchedulerConfig
from hfx_sgl.policy.scheduler.facts import (
    Action,
    Dispatch,
    Recall,
    Rejection,
    RequestFacts,
    WorkerReport,
)
from hfx_sgl.policy.scheduler.scheduler import Scheduler
from hfx_sgl.policy.scheduler.worker_state import WorkerState
from hfx_sgl.types import Role

KV_TOKENS = 3000
NAMES = ("w0", "w1", "w2", "w3", "w4")
prompts = st.integers(1, 2000)
promises = st.sampled_from([0.01, 0.2, 1.0, 5.0, math.inf])
tpots = st.sampled_from([0.001, 0.02, 0.1, math.inf])
groups = st.sampled_from(["", "a", "b"])
prefixes = st.sampled_from([(), (1, 2, 3), (1, 2, 3, 4, 5, 6), (7,), tuple(range(100, 150))])


def states_of(scheduler: Scheduler) -> list[WorkerState]:
    return [*scheduler._prefillers.states.values(), *scheduler._decoders.states.values()]


class SchedulerMachine(RuleBasedStateMachine):
    """Keeps its own books on every request and worker and compares."""

    @initialize(
        lookahead_s=st.sampled_from([0.0, 0.03, 1.0]),
        demoted_share=st.sampled_from([0.0, 0.03, 1.0]),
        window=st.integers(1, 4),
        on_infeasible=st.sampled_from(list(OnInfeasible)),
        caution=st.sampled_from([0.0, 1.0]),
        fairness=st.sampled_from([0.0, 0.6, 1.0]),
        hit_gain=st.sampled_from([0.0, 2.0]),
        has_pairs=st.booleans(),
    )
    def start(
        self,
        lookahead_s: float,
        demoted_share: float,
        window: int,
        on_infeasible: OnInfeasible,
        caution: float,
        fairness: float,
        hit_gain: float,
        has_pairs: bool,
    ) -> None:
        config = SchedulerConfig(
            lookahead_s=lookahead_s,
            demoted_share=demoted_share,
            window=window,
            on_infeasible=on_infeasible,
            prefill_caution=caution,
            step_caution=caution,
            fairness=fairness,
            hit_gain=hit_gain,
            overdue_s=0.1,
            passed_over_s=0.5,
        )
        self.config = config
        # Two that are told the same must decide the same.
        self.schedulers = (Scheduler(config, plain_models()), Scheduler(config, plain_models()))
        self.scheduler = self.schedulers[0]
        self.now_s = 0.0
        self.num_arrived = 0
        self.waiting: dict[str, RequestFacts] = {}
        self.facts: dict[str, RequestFacts] = {}
        self.sent: dict[str, Dispatch] = {}
        self.num_recalls: Counter[str] = Counter()
        self.ever_rejected: set[str] = set()
        self.workers: dict[str, Role] = {}
        self.unusable: set[str] = set()
        self.num_tokens = 0
        roles = [Role.PREFILL, Role.DECODE] if has_pairs else [Role.REGULAR, Role.REGULAR]
        for name, role in zip(NAMES, roles, strict=False):
            self.join(name, role)

    @rule(name=st.sampled_from(NAMES), role=st.sampled_from(list(Role)))
    def join(self, name: str, role: Role) -> None:
        for scheduler in self.schedulers:
            scheduler.add_worker(worker(name, role, KV_TOKENS))
        self.workers[name] = role
        self.unusable.discard(name)

    @rule(name=st.sampled_from(NAMES), is_usable=st.booleans())
    def become(self, name: str, is_usable: bool) -> None:
        for scheduler in self.schedulers:
            scheduler.set_usable(name, is_usable)
        if name in self.workers:
            (self.unusable.discard if is_usable else self.unusable.add)(name)

    @rule(name=st.sampled_from(NAMES))
    def leave(self, name: str) -> None:
        for scheduler in self.schedulers:
            scheduler.remove_worker(name)
        self.workers.pop(name, None)

    @rule(
        tokens=prompts,
        ttft_s=promises,
        tpot_s=tpots,
        e2e_s=promises,
        block_digests=prefixes,
        avoided_ids=st.frozensets(st.sampled_from(NAMES), max_size=2),
        class_name=groups,
        tenant=groups,
    )
    def arrive(
        self,
        tokens: int,
        ttft_s: float,
        tpot_s: float,
        e2e_s: float,
        block_digests: Sequence[int],
        avoided_ids: frozenset[str],
        class_name: str,
        tenant: str,
    ) -> None:
        facts = request(
            f"r{self.num_arrived}",
            tokens,
            at_s=self.now_s,
            ttft_s=ttft_s,
            tpot_s=tpot_s,
            e2e_s=e2e_s,
            block_digests=block_digests,
            avoided_ids=avoided_ids,
            class_name=class_name,
            tenant=tenant,
        )
        self.num_arrived += 1
        for scheduler in self.schedulers:
            scheduler.arrive(facts)
        self.waiting[facts.request_id] = facts
        self.facts[facts.request_id] = facts

    @rule(duration_s=st.sampled_from([0.0, 0.01, 0.1, 1.0, 100.0]))
    def wait(self, duration_s: float) -> None:
        self.now_s += duration_s

    @rule()
    def wait_until_wanted(self) -> None:
        wanted_s = self.scheduler.next_decision_s(self.now_s)
        assert wanted_s > self.now_s
        if wanted_s < math.inf:
            self.now_s = wanted_s

    @rule()
    def decide(self) -> None:
        # One of them remembers nothing of who waits for a worker with its prefix.
        self.schedulers[1]._placement._waiters.forget()
        actions, others = (scheduler.decide(self.now_s) for scheduler in self.schedulers)
        assert actions == others, "equal inputs, equal decisions"
        for action in actions:
            self.check(action)
        if any(isinstance(action, Recall) for action in actions):
            self.wait_until_wanted()
            self.decide()
            return
        for scheduler in self.schedulers:
            assert scheduler.decide(self.now_s) == [], "nothing is left to say"

    def check(self, action: Action) -> None:
        request_id = action.request_id
        if isinstance(action, Recall):
            self.num_recalls[request_id] += 1
            assert self.num_recalls[request_id] <= self.config.max_recalls
            self.waiting[request_id] = self.facts[request_id]
            del self.sent[request_id]
            return
        facts = self.waiting.pop(request_id)
        assert action.decision.request_id == request_id
        if isinstance(action, Rejection):
            assert self.config.on_infeasible is OnInfeasible.REJECT
            assert (
                facts.slo.ttft_s < math.inf
                or facts.slo.e2e_s < math.inf
                or (self.now_s > facts.arrived_at_s)
            )
            assert action.retry_after_s >= 0
            self.ever_rejected.add(request_id)
            return
        self.sent[request_id] = action
        self.check_dispatch(action, facts)

    def check_dispatch(self, dispatch: Dispatch, facts: RequestFacts) -> None:
        used_ids = {dispatch.worker_id, dispatch.prefill_worker_id or dispatch.worker_id}
        assert not used_ids & self.unusable
        if dispatch.prefill_worker_id is None:
            assert self.workers[dispatch.worker_id] is Role.REGULAR
        else:
            assert self.workers[dispatch.worker_id] is Role.DECODE
            assert self.workers[dispatch.prefill_worker_id] is Role.PREFILL
        assert 0 <= dispatch.num_hit_tokens < facts.num_prompt_tokens
        assert dispatch.predicted_prefill_s > 0
        assert 0 <= dispatch.priority <= 9
        assert (dispatch.priority > 0) == dispatch.is_on_time
        assert dispatch.is_on_time == (dispatch.decision.slack_s >= 0)
        assert dispatch.decision.candidates[0].worker_id in used_ids
        assert len(dispatch.decision.candidates) <= 4
        for candidate in dispatch.decision.candidates:
            assert candidate.worker_id in self.workers

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def prefill_ends(self, data: st.DataObject) -> None:
        request_id = data.draw(st.sampled_from(sorted(self.sent)))
        for scheduler in self.schedulers:
            scheduler.prefill_over(request_id, self.now_s)

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def first_token_comes(self, data: st.DataObject) -> None:
        request_id = data.draw(st.sampled_from(sorted(self.sent)))
        for scheduler in self.schedulers:
            scheduler.first_token(request_id, self.now_s)

    @precondition(lambda self: self.sent or self.waiting)
    @rule(
        data=st.data(),
        num_output_tokens=st.none() | st.integers(0, 500),
        decode_s=st.none() | st.floats(0.0, 100.0),
    )
    def end(
        self, data: st.DataObject, num_output_tokens: int | None, decode_s: float | None
    ) -> None:
        request_id = data.draw(st.sampled_from(sorted([*self.sent, *self.waiting])))
        self.finish(request_id, num_output_tokens, decode_s)

    def finish(
        self, request_id: str, num_output_tokens: int | None, decode_s: float | None = None
    ) -> None:
        for scheduler in self.schedulers:
            scheduler.over(request_id, self.now_s, num_output_tokens, decode_s)
        self.sent.pop(request_id, None)
        self.waiting.pop(request_id, None)

    @rule(
        name=st.sampled_from(NAMES),
        num_tokens=st.integers(-500, 5000),
        transfer_bytes=st.sampled_from([0, 1, 10**6, 10**9]),
        transfer_s=st.sampled_from([0.0, 0.001, 0.5, 50.0]),
    )
    def report(self, name: str, num_tokens: int, transfer_bytes: int, transfer_s: float) -> None:
        self.num_tokens = max(0, self.num_tokens + num_tokens)
        for scheduler in self.schedulers:
            scheduler.report(
                name,
                WorkerReport(
                    num_prefill_tokens=self.num_tokens,
                    prefill_busy_s=self.num_tokens * 2e-3,
                    decode_moments=(),
                    mean_context_tokens=0.0,
                    last_transfer_bytes=transfer_bytes,
                    last_transfer_s=transfer_s,
                ),
            )

    @invariant()
    def kv_stays_within_its_share(self) -> None:
        for state in states_of(self.scheduler):
            assert state.num_running <= 1 or state.kv_tokens <= 0.9 * KV_TOKENS

    @invariant()
    def accounts_are_never_below_zero(self) -> None:
        for state in states_of(self.scheduler):
            assert min(state.num_running, state.kv_tokens, state.context_tokens) >= 0
            assert (state.num_running == 0) == (state.kv_tokens == 0)

    @invariant()
    def everybody_is_somewhere(self) -> None:
        scheduler = self.scheduler
        assert scheduler._waiting.keys() == self.waiting.keys()
        assert scheduler._sent.keys() == self.sent.keys()
        assert len(scheduler._queue) == len(self.waiting)

    @invariant()
    def hits_are_found_as_if_each_was_looked_at(self) -> None:
        queue = self.scheduler._queue
        expected: dict[str, list[int]] = {}
        for entry in queue.feasible:
            is_much = entry.uncached_s >= (1.0 + self.config.hit_gain) * entry.service_s
            if entry.home_id is not None and is_much:
                expected.setdefault(entry.home_id, []).append(entry.sequence)
        found = {
            home_id: [entry.sequence for entry in queue.hits.of(home_id, queue.feasible[-1])]
            for home_id in queue.hits.home_ids
        }
        assert found == expected

    @invariant()
    def only_those_wait_for_a_prefix_that_wait(self) -> None:
        waiting = {entry.sequence for entry in self.scheduler._queue.feasible}
        assert self.scheduler._placement._waiters.known.keys() <= waiting

    def teardown(self) -> None:
        """All who wait are served in the end, and nothing is left of anybody."""
        if not hasattr(self, "scheduler"):
            return
        self.join("w0", Role.REGULAR)
        self.join("last", Role.DECODE)
        for _ in range(2 * self.num_arrived + 2):
            self.now_s += 1000.0
            for request_id in list(self.sent):
                self.finish(request_id, 10)
            self.decide()
        assert not self.waiting
        assert not self.sent
        assert self.scheduler.next_decision_s(self.now_s) == math.inf
        for state in states_of(self.scheduler):
            assert (state.num_running, state.kv_tokens, state.context_tokens) == (0, 0, 0)
            assert not state.prompts
            assert state.tightest_tpot_s == math.inf
        for pool in (self.scheduler._prefillers, self.scheduler._decoders):
            pool.settle(self.now_s + 1e6)
            usable = [state for state in pool.states.values() if state.is_usable]
            assert set(pool.ready.states) == set(usable)
            start_s, speed = pool.capacity(self.now_s + 1e6)
            assert start_s == self.now_s + 1e6
            assert speed == pytest.approx(len(usable), abs=1e-6)


TestScheduler = SchedulerMachine.TestCase
TestScheduler.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


arrivals = st.lists(
    st.tuples(st.floats(0.0, 0.5), prompts, promises, tpots, prefixes), min_size=1, max_size=25
)


@settings(max_examples=60, deadline=None)
@given(arrivals=arrivals, workers=st.sampled_from([UNIFIED, PAIRS]))
def test_asking_only_when_it_wants_to_be_asked_serves_everybody(
    arrivals: Sequence[tuple[float, int, float, float, Sequence[int]]],
    workers: Sequence[tuple[str, Role]],
) -> None:
    cluster = PlayedCluster(plain_scheduler(workers, kv_capacity_tokens=KV_TOKENS), decode_s=0.5)
    at_s = 0.0
    coming = []
    for number, (gap_s, tokens, ttft_s, tpot_s, block_digests) in enumerate(arrivals):
        at_s += gap_s
        coming.append(
            request(
                f"r{number}",
                tokens,
                at_s=at_s,
                ttft_s=ttft_s,
                tpot_s=tpot_s,
                block_digests=block_digests,
            )
        )
    cluster.run(coming)
    assert sorted(cluster.sent_ids()) == sorted(facts.request_id for facts in coming)
    assert cluster.ended_at_s.keys() == {facts.request_id for facts in coming}


@settings(max_examples=60, deadline=None)
@given(
    tokens=prompts,
    bounds_s=st.tuples(promises, promises).map(sorted),
    before=st.lists(prompts, max_size=3),
    workers=st.sampled_from([UNIFIED, PAIRS]),
)
def test_a_looser_promise_never_delays_a_lone_request(
    tokens: int,
    bounds_s: Sequence[float],
    before: Sequence[int],
    workers: Sequence[tuple[str, Role]],
) -> None:
    sent_at_s = []
    for ttft_s in bounds_s:
        cluster = PlayedCluster(plain_scheduler(workers), decode_s=0.1)
        running = [request(f"b{number}", each) for number, each in enumerate(before)]
        # Those before are all under way: nobody else waits.
        cluster.run([*running, request("lone", tokens, at_s=10.0, ttft_s=ttft_s)])
        sent_at_s.append(cluster.sent_at_s("lone"))
    tight_s, loose_s = sent_at_s
    assert loose_s <= tight_s


@settings(max_examples=60, deadline=None)
@given(arrivals=st.lists(st.tuples(prompts, promises), min_size=1, max_size=12))
def test_who_is_said_to_be_on_time_is_on_time(arrivals: Sequence[tuple[int, float]]) -> None:
    cluster = PlayedCluster(plain_scheduler(PAIRS), decode_s=0.1)
    coming = [
        request(f"r{number}", tokens, ttft_s=ttft_s)
        for number, (tokens, ttft_s) in enumerate(arrivals)
    ]
    cluster.run(coming)
    promised_s = {facts.request_id: facts.slo.ttft_s for facts in coming}
    for _, dispatch in cluster.sent:
        if dispatch.is_on_time:
            request_id = dispatch.request_id
            assert cluster.first_token_at_s[request_id] <= promised_s[request_id]
