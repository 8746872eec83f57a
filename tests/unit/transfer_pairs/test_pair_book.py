"""The book of pairs: what may not be chosen, who has to be told what, and what people see."""

from collections.abc import Mapping

import pytest

from hfx_sgl.policy.pairs.book import PairBook
from hfx_sgl.policy.pairs.link import LinkConfig, LinkState

PREFILLS, DECODES = frozenset({"p0", "p1"}), frozenset({"d0", "d1"})
CONFIG = LinkConfig(failure_threshold=2, cooldown_s=5.0)


def book(prefills: frozenset[str] = PREFILLS, decodes: frozenset[str] = DECODES) -> PairBook:
    made = PairBook(CONFIG)
    made.set_workers(prefills, decodes)
    return made


def take_down(made: PairBook, prefill_id: str, decode_id: str, now_s: float = 0.0) -> None:
    for _ in range(CONFIG.failure_threshold):
        made.failed(prefill_id, decode_id, "handshake failed", now_s)


def test_nothing_is_barred_at_first_and_nothing_is_settled() -> None:
    made = book()
    assert made.barred == {}
    assert (made.has_due, made.has_trials, made.is_settled) == (False, False, False)
    assert made.counts() == {
        "unknown": 4, "ok": 0, "suspect": 0, "down": 0, "due": 0, "trial": 0, "incompatible": 0,
    }  # fmt: skip


def test_without_workers_there_is_nothing_to_tell() -> None:
    made = PairBook(CONFIG)
    assert made.is_settled
    made.failed("p0", "d0", "of a worker that left", 0.0)
    made.succeeded("p0", "d0", 0.0)
    made.judge({("p0", "d0"): "no"})
    assert made.barred == {}
    assert sum(made.counts().values()) == 0


def test_it_is_settled_when_every_pair_has_handed_over() -> None:
    made = book()
    pairs = [(p, d) for p in sorted(PREFILLS) for d in sorted(DECODES)]
    for prefill_id, decode_id in pairs:
        assert not made.is_settled
        made.succeeded(prefill_id, decode_id, 0.0)
    assert made.is_settled
    made.failed("p0", "d0", "broken", 1.0)
    assert not made.is_settled
    made.succeeded("p0", "d0", 2.0)
    assert made.is_settled


def test_a_link_that_goes_down_bars_its_pair_alone() -> None:
    made = book()
    take_down(made, "p0", "d1")
    assert made.barred == {"p0": {"d1"}}
    assert made.problem("p0", "d1") == "handshake failed"
    assert made.problem("p0", "d0") is None
    assert made.retry_after_s(2.0) == 3.0


def test_the_trial_is_open_to_one_request() -> None:
    made = book()
    take_down(made, "p0", "d1")
    made.poll(4.9)
    assert made.barred == {"p0": {"d1"}}
    assert not made.has_due
    made.poll(5.0)
    assert (made.barred, made.has_due) == ({}, True)
    made.taken("p1", "d1", 5.0)
    assert made.has_due, "another pair's request is no trial"
    made.taken("p0", "d1", 5.0)
    assert made.barred == {"p0": {"d1"}}
    assert (made.has_due, made.has_trials) == (False, True)
    made.abandoned("p0", "d1", 6.0)
    assert (made.barred, made.has_due, made.has_trials) == ({}, True, False)
    made.taken("p0", "d1", 6.0)
    made.succeeded("p0", "d1", 7.0)
    assert (made.barred, made.has_due, made.has_trials) == ({}, False, False)
    assert made.standing("p0", "d1").state is LinkState.OK


def test_pairs_that_do_not_fit_stay_barred_whatever_their_link_does() -> None:
    made = book()
    made.judge({("p0", "d0"): "page_size: prefill 1, decode 16", ("p0", "d1"): ""})
    made.succeeded("p0", "d0", 0.0)
    assert made.barred == {"p0": {"d0"}}
    assert made.problem("p0", "d0") == "page_size: prefill 1, decode 16"
    assert made.counts()["incompatible"] == 1
    assert made.counts()["ok"] == 0
    assert made.retry_after_s(0.0) is None
    made.judge({("p0", "d0"): ""})
    assert made.barred == {}
    assert made.counts()["ok"] == 1


def test_what_is_barred_is_replaced_and_not_changed() -> None:
    made = book()
    seen: list[Mapping[str, frozenset[str]]] = []
    made.subscribe(lambda: seen.append(made.barred))
    take_down(made, "p0", "d0")
    take_down(made, "p0", "d1")
    made.succeeded("p1", "d1", 0.0)
    made.judge({("p1", "d0"): "no", ("p0", "d0"): "no"})
    assert seen == [{"p0": {"d0"}}, {"p0": {"d0", "d1"}}, {"p0": {"d0", "d1"}, "p1": {"d0"}}]


def test_workers_that_leave_take_their_pairs_along() -> None:
    made = book()
    take_down(made, "p0", "d0")
    made.judge({("p1", "d1"): "no"})
    made.succeeded("p0", "d1", 0.0)
    made.set_workers(frozenset({"p0"}), frozenset({"d1"}))
    assert made.barred == {}
    assert made.is_settled
    assert made.counts()["ok"] == sum(made.counts().values()) == 1
    made.set_workers(PREFILLS, DECODES)
    assert made.standing("p0", "d0").state is LinkState.UNKNOWN


def test_a_worker_that_comes_back_is_known_no_more() -> None:
    made = book()
    take_down(made, "p0", "d0")
    made.failed("p0", "d1", "broken", 0.0)
    made.succeeded("p1", "d0", 0.0)
    made.renewed("p0", 1.0)
    assert made.barred == {}
    states = {key: made.standing(*key).state for key in (("p0", "d0"), ("p0", "d1"), ("p1", "d0"))}
    assert states == {
        ("p0", "d0"): LinkState.UNKNOWN,
        ("p0", "d1"): LinkState.UNKNOWN,
        ("p1", "d0"): LinkState.OK,
    }


def test_a_probe_casts_doubt_and_bars_nobody() -> None:
    made = book()
    made.succeeded("p0", "d0", 0.0)
    made.probed("p0", "its bootstrap port does not answer", 1.0)
    assert made.barred == {}
    assert made.counts()["suspect"] == 2
    assert made.standing("p1", "d0").state is LinkState.UNKNOWN
    made.probed("p0", "", 2.0)
    assert made.counts()["suspect"] == 0


def test_a_probe_does_not_end_a_trial() -> None:
    made = book()
    take_down(made, "p0", "d0")
    made.poll(5.0)
    made.taken("p0", "d0", 5.0)
    made.probed("p0", "nobody answers", 5.5)
    assert made.standing("p0", "d0").state is LinkState.TRIAL


def test_the_worst_pairs_come_first() -> None:
    made = book()
    made.doubted("p0", "d0", "late", 0.0)
    take_down(made, "p0", "d1")
    made.judge({("p1", "d1"): "no"})
    made.succeeded("p1", "d0", 0.0)
    assert [one[:2] for one in made.remarkable()] == [("p1", "d1"), ("p0", "d1"), ("p0", "d0")]


def test_changes_are_counted_and_told() -> None:
    made = book()
    told: list[tuple[tuple[str, str], LinkState, LinkState]] = []
    made.on_link_changed = lambda key, before, link: told.append((key, before, link.state))
    take_down(made, "p0", "d0")
    assert told == [
        (("p0", "d0"), LinkState.UNKNOWN, LinkState.SUSPECT),
        (("p0", "d0"), LinkState.SUSPECT, LinkState.DOWN),
    ]
    assert made.num_changes == {
        (LinkState.UNKNOWN, LinkState.SUSPECT): 1,
        (LinkState.SUSPECT, LinkState.DOWN): 1,
    }


@pytest.mark.parametrize("now_s", [0.0, 100.0])
def test_the_standing_of_a_pair_that_is_down(now_s: float) -> None:
    made = book()
    take_down(made, "p0", "d0", now_s)
    one = made.standing("p0", "d0")
    assert (one.state, one.problem, one.reason) == (LinkState.DOWN, "", "handshake failed")
    assert (one.since_s, one.due_at_s, one.num_failures) == (now_s, now_s + 5.0, 2)
