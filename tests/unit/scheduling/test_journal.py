import pytest
from hfx_router.scheduling.journal import Actual, Journal
from msgspec.structs import replace
from support.journals import make_decision, make_facts, make_journal, tell

from hfx_sgl.policy.scheduler.decision import Reason
from hfx_sgl.slo import Slo

SENT = (Reason.ON_TIME, Reason.PREFIX_HOME, Reason.LATE, Reason.AGED)


def kept(journal: Journal) -> list[str]:
    return [story.shown_request_id for _, story in journal.newest_first()]


def test_keeps_the_last_decisions_newest_first() -> None:
    journal = make_journal(num_kept=2)
    for request_id in "123":
        tell(journal, request_id)
    assert kept(journal) == ["req-3", "req-2"]
    assert journal.max_kept == 2


def test_counts_even_when_it_keeps_none() -> None:
    journal = make_journal(num_kept=0)
    tell(journal)
    assert kept(journal) == []
    assert journal.recorder.decisions[Reason.ON_TIME] == 1


def test_holds_decisions_as_they_were_made() -> None:
    journal = make_journal()
    decision = make_decision()
    journal.applied(make_facts(), b"req-1")
    journal.decided(decision)
    [(held, story)] = journal.newest_first()
    assert held is decision
    assert story.actual is None


def test_the_outcome_reaches_what_is_kept() -> None:
    journal = make_journal()
    tell(journal)
    journal.ended("1", 200, (0.3, 0.02), True)
    [(_, story)] = journal.newest_first()
    assert story.actual == Actual(200, (0.3, 0.02), True)
    assert journal.num_under_way == 0


def test_an_attempt_that_failed_leaves_the_outcome_open() -> None:
    journal = make_journal()
    tell(journal, "1")
    journal.given_up("1")
    tell(journal, "2")  # the same request under its next ticket
    journal.ended("2", 200, None, None)
    assert [story.actual for _, story in journal.newest_first()] == [Actual(200, None, None), None]


@pytest.mark.parametrize(
    ("stream", "num_ttft", "num_tpot"),
    [((0.3, 0.02), 1, 1), ((0.3, None), 1, 0), (None, 0, 0)],
)
def test_predictions_are_compared_with_what_can_be_seen(
    stream: tuple[float, float | None] | None, num_ttft: int, num_tpot: int
) -> None:
    journal = make_journal()
    tell(journal, predicted_ttft_s=0.25, predicted_tpot_s=0.025)
    journal.ended("1", 200, stream, None)
    recorder = journal.recorder
    assert recorder.ttft_error_s.num_observed == num_ttft
    assert recorder.tpot_error_s.num_observed == num_tpot
    assert recorder.ttft_error_s.total == pytest.approx(0.05 * num_ttft)
    assert recorder.tpot_error_s.total == pytest.approx(-0.005 * num_tpot)


@pytest.mark.parametrize("reason", [Reason.STUCK, Reason.PASSED_OVER])
def test_a_request_that_was_taken_back_has_no_prediction(reason: Reason) -> None:
    journal = make_journal()
    tell(journal)
    journal.decided(make_decision(reason=reason))
    journal.ended("1", 499, (0.3, 0.02), None)
    assert journal.recorder.ttft_error_s.num_observed == 0


@pytest.mark.parametrize("reason", Reason)
def test_only_what_was_sent_has_waited_and_has_slack(reason: Reason) -> None:
    journal = make_journal()
    tell(journal, reason=reason, ttft_s=1.0, waited_s=0.04, slack_s=-0.3)
    recorder = journal.recorder
    assert {one: n for one, n in recorder.decisions.items() if n} == {reason: 1}
    assert list(recorder.queue_wait_s) == list(recorder.slack_s) == ["chat"] * (reason in SENT)
    if reason in SENT:
        assert recorder.queue_wait_s["chat"].total == 0.04
        assert recorder.slack_s["chat"].total == -0.3
        assert sum(recorder.slack_s["chat"].counts[:9]) == 1, "0 is a bound"


@pytest.mark.parametrize(
    ("bounds", "num_slacks"),
    [(Slo(), 0), (Slo(tpot_s=0.1), 0), (Slo(ttft_s=1.0), 1), (Slo(e2e_s=9.0), 1)],
)
def test_slack_is_counted_where_there_is_a_deadline(bounds: Slo, num_slacks: int) -> None:
    journal = make_journal()
    journal.applied(replace(make_facts(), slo=bounds), b"")
    journal.decided(make_decision())
    assert len(journal.recorder.slack_s) == num_slacks
    assert journal.recorder.queue_wait_s["chat"].num_observed == 1


def test_tells_who_waits_and_who_is_late() -> None:
    journal = make_journal(now_s=100.0)  # 40 ms after all of them came
    journal.applied(make_facts("1", "chat", ttft_s=0.05), b"")
    journal.applied(make_facts("2", "chat", ttft_s=0.03), b"")
    journal.applied(make_facts("3", "/v1/completions"), b"")
    assert list(journal.waiting()) == [("chat", False), ("chat", True), ("none", False)]
    journal.decided(make_decision("2"))
    assert list(journal.waiting()) == [("chat", False), ("none", False)]
    journal.decided(make_decision("2", Reason.STUCK))
    assert ("chat", True) in list(journal.waiting())
    journal.ended("1", 499, None, None)
    journal.ended("2", 499, None, None)
    assert list(journal.waiting()) == [("none", False)]
