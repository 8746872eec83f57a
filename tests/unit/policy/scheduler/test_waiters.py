import pytest
from support.scheduling import entry, plain_models, worker

from hfx_sgl.policy.scheduler.config import SchedulerConfig
from hfx_sgl.policy.scheduler.entry import Entry
from hfx_sgl.policy.scheduler.partners import NOBODY
from hfx_sgl.policy.scheduler.pool import WorkerPool
from hfx_sgl.policy.scheduler.waiters import Terms, Waiters
from hfx_sgl.policy.scheduler.worker_state import WorkerState
from hfx_sgl.types import Role

USUAL: Terms = (NOBODY, None, False)
ROOM_TOKENS = 1000


class Cluster:
    """Prefill workers that are busy until 10 s and until 20 s, and a decode worker."""

    def __init__(self) -> None:
        self.prefillers = WorkerPool(SchedulerConfig())
        self.decoders = WorkerPool(SchedulerConfig())
        self.first, self.second = (self.join(name, Role.PREFILL) for name in ("p0", "p1"))
        self.decoder = self.join("d0", Role.DECODE)
        self.first.add_prompt(entry(100, service_s=10.0), 0.0)
        self.second.add_prompt(entry(101, service_s=20.0), 0.0)
        self.settle(0.0)
        self.waiters = Waiters(self.prefillers, self.decoders)
        self.waiters.begin(USUAL, is_new=False)

    def join(self, name: str, role: Role) -> WorkerState:
        facts = worker(name, role, kv_capacity_tokens=ROOM_TOKENS)
        state = WorkerState(facts, plain_models(), sequence=len(self.prefillers.states))
        (self.decoders if role is Role.DECODE else self.prefillers).add(state)
        return state

    def settle(self, now_s: float) -> None:
        self.prefillers.settle(now_s)
        self.decoders.settle(now_s)

    def step(self, now_s: float = 0.0, terms: Terms = USUAL, *, is_new: bool = False) -> list[int]:
        """Begin a step and return who is known to wait."""
        self.settle(now_s)
        self.waiters.begin(terms, is_new=is_new)
        return sorted(self.waiters.known)

    def changes(self) -> None:
        """The pool changes in a way that concerns none of them."""
        self.prefillers.version += 1


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


def waiting(sequence: int, *worker_ids: str, digests: tuple[int, ...] = ()) -> Entry:
    """One whose prefix these workers have, the first of them most."""
    made = entry(sequence, num_prompt_tokens=50, num_output_tokens=50)
    made.home_id = worker_ids[0]
    made.hit_tokens = dict.fromkeys(worker_ids, 10)
    made.grains = digests
    return made


def test_who_waits_is_known_until_a_worker_that_it_is_about_changes(cluster: Cluster) -> None:
    cluster.waiters.add(waiting(0, "p0"), cluster.first)
    cluster.waiters.add(waiting(1, "p1"), cluster.second)
    cluster.waiters.add(waiting(2, "p1", "p0"), cluster.second)
    cluster.changes()
    assert cluster.step() == [0, 1, 2]
    # Workers are ready a little before they are free.
    assert cluster.step(9.98) == [1]
    cluster.second.add_prompt(entry(102, service_s=0.01), 0.0)
    cluster.prefillers.touch(cluster.second)
    assert cluster.step(9.98) == [1], "so little does not matter while nothing else changes"
    cluster.changes()
    assert cluster.step(9.98) == []


def test_who_was_seen_is_forgotten_when_the_pool_changes(cluster: Cluster) -> None:
    cluster.waiters.seen.add(0)
    cluster.step()
    assert cluster.waiters.seen == {0}
    cluster.changes()
    cluster.step()
    assert not cluster.waiters.seen


def test_all_are_forgotten_when_they_have_been_judged_anew(cluster: Cluster) -> None:
    cluster.waiters.add(waiting(0, "p0"), cluster.first)
    assert cluster.step(is_new=True) == []


@pytest.mark.parametrize("terms", [(frozenset({"p0"}), None, False), (NOBODY, None, True)])
def test_other_terms_count_once_the_pool_changes(cluster: Cluster, terms: Terms) -> None:
    cluster.waiters.add(waiting(0, "p0"), cluster.first)
    assert cluster.step(terms=terms) == [0]
    # That they are the old ones again is no help: somebody may have come in between.
    cluster.changes()
    assert cluster.step() == []
    cluster.waiters.add(waiting(0, "p0"), cluster.first)
    cluster.changes()
    assert cluster.step() == [0]


def test_those_that_no_decode_worker_has_room_for_do_not_wait(cluster: Cluster) -> None:
    cluster.waiters.add(waiting(0, "p0"), cluster.first)
    cluster.decoder.add_running(entry(104, num_prompt_tokens=700, num_output_tokens=100))
    cluster.decoders.touch(cluster.decoder)
    cluster.changes()
    assert cluster.step() == [0]
    cluster.decoder.add_running(entry(105, num_prompt_tokens=101, num_output_tokens=0))
    cluster.decoders.touch(cluster.decoder)
    cluster.changes()
    assert cluster.step() == []


def test_a_prompt_that_is_sent_concerns_those_that_begin_like_it(cluster: Cluster) -> None:
    sent = waiting(0, "p0", digests=(7, 8))
    for added in (sent, waiting(1, "p0", digests=(7, 9)), waiting(2, "p0", digests=(6, 8))):
        cluster.waiters.add(added, cluster.first)
    cluster.waiters.sent(sent)
    assert cluster.step() == [2]


def test_nothing_is_left_of_those_that_are_gone(cluster: Cluster) -> None:
    entries = [waiting(sequence, "p0", "p1", digests=(sequence % 2,)) for sequence in range(4)]
    for added in entries:
        cluster.waiters.add(added, cluster.first)
    for gone in entries:
        cluster.waiters.discard(gone)
        cluster.waiters.discard(gone)
    assert not cluster.waiters.known
    assert not cluster.waiters._by_ground


def test_a_worker_that_left_takes_its_prefixes_with_it(cluster: Cluster) -> None:
    cluster.waiters.add(waiting(0, "p0"), cluster.first)
    cluster.waiters.forget()
    cluster.prefillers.remove("p1")
    assert not cluster.prefillers.changed_ids
    assert cluster.step() == []
