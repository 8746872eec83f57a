import math
from typing import Any

import orjson
import pytest
from hfx_router.scheduling.explain import explanation, rendered
from hfx_router.scheduling.journal import Actual, Story
from support.journals import make_decision, make_facts

from hfx_sgl.policy.scheduler.decision import Reason
from hfx_sgl.slo import Slo

URLS = {"u1": "http://one:1", "u2": "http://two:2", "p1": "http://pre:3"}
AT = "2026-01-02T03:04:05.678+00:00"


def render(actual: Actual | None = None, *, ttft_s: float = 1.0, **given: Any) -> Any:
    story = Story(make_facts(ttft_s=ttft_s, tpot_s=0.05), b"req-1", "chat")
    if actual is not None:
        story.ended(*actual)
    return rendered(make_decision(**given), story, AT, URLS.__getitem__)


def test_everything_has_its_unit_and_workers_their_urls() -> None:
    shown = render(Actual(200, (0.3104, 0.0201), True))
    sentence = shown.pop("explanation")
    assert "http://one:1" in sentence
    assert shown == {
        "at": AT,
        "request_id": "req-1",
        "class": "chat",
        "reason": "on_time",
        "worker": "http://one:1",
        "prefill_worker": None,
        "waited_ms": 40.0,
        "slack_ms": 780.0,
        "promised": {"ttft_ms": 1000.0, "tpot_ms": 50.0, "e2e_ms": None},
        "predicted": {"ttft_ms": 200.0, "tpot_ms": 25.0},
        "actual": {"status": 200, "ttft_ms": 310.4, "tpot_ms": 20.1, "promise_kept": True},
        "prompt_tokens": 1000,
        "cached_prompt_tokens": 768,
        "expected_output_tokens": 200,
        "queue": {"waiting": 3, "late": 1},
        "candidates": [
            {
                "worker": "http://one:1",
                "begins_in_ms": 0.0,
                "prefill_ms": 120.0,
                "cached_prompt_tokens": 768,
                "decode_step_ms": 21.5,
                "has_room": True,
            },
            {
                "worker": "http://two:2",
                "begins_in_ms": 30.0,
                "prefill_ms": 200.0,
                "cached_prompt_tokens": 0,
                "decode_step_ms": None,
                "has_room": False,
            },
        ],
    }


def test_a_worker_that_does_both_is_named_once() -> None:
    shown = render(worker_id="u1", prefill_worker_id="u1")
    assert shown["prefill_worker"] is None
    assert shown["explanation"].count("http://one:1") == 1


def test_what_is_unknown_is_null() -> None:
    shown = render(ttft_s=math.inf, predicted_ttft_s=math.inf, class_name="/generate")
    assert shown["actual"] is None
    assert shown["slack_ms"] is None
    assert shown["promised"]["ttft_ms"] is None
    assert shown["predicted"]["ttft_ms"] is None
    assert shown["class"] == "none"
    orjson.dumps(shown)


def test_times_that_cannot_be_seen_are_null() -> None:
    actual = render(Actual(499, None, None))["actual"]
    assert actual == {"status": 499, "ttft_ms": None, "tpot_ms": None, "promise_kept": None}


def test_ids_of_clients_are_text_whatever_their_bytes() -> None:
    story = Story(make_facts(), b"r\xe9\xff", "chat")
    orjson.dumps(rendered(make_decision(), story, AT, URLS.__getitem__))
    assert story.shown_request_id == "r\u00e9\u00ff"


TTFT = "first token expected 200 ms after its arrival, 1000 ms promised."


@pytest.mark.parametrize(
    ("reason", "sentence"),
    [
        (
            Reason.ON_TIME,
            f"Sent to http://one:1 after 40 ms, as the most urgent that it suited: {TTFT}",
        ),
        (
            Reason.PREFIX_HOME,
            "Sent to http://one:1 after 40 ms, where 768 of its 1000 prompt tokens should be "
            f"cached: {TTFT}",
        ),
        (
            Reason.LATE,
            "Sent to http://one:1 after 40 ms, behind all whose promises could still be kept: "
            f"{TTFT}",
        ),
        (
            Reason.AGED,
            "Sent to http://one:1 after 40 ms, which was long enough for others to give way: "
            f"{TTFT}",
        ),
        (
            Reason.INFEASIBLE,
            f"Sent away after 40 ms, because its promise could not be kept: {TTFT}",
        ),
        (
            Reason.STUCK,
            "Taken back from http://one:1 that had not begun it after 40 ms; it waits again.",
        ),
        (
            Reason.PASSED_OVER,
            "Taken back from http://one:1 after 40 ms, long after later ones were computed there: "
            "its hand-off has most likely got lost. It waits again.",
        ),
    ],
)
def test_one_sentence_for_each_reason(reason: Reason, sentence: str) -> None:
    decision = make_decision(reason=reason)
    assert explanation(decision, Slo(ttft_s=1.0), URLS.__getitem__) == sentence


def test_a_request_that_is_nowhere_was_taken_from_a_worker() -> None:
    decision = make_decision(reason=Reason.STUCK, worker_id=None)
    sentence = explanation(decision, Slo(), URLS.__getitem__)
    assert sentence.startswith("Taken back from a worker that had not begun it")


def test_a_pair_is_named_and_what_is_not_promised_is_said() -> None:
    decision = make_decision(
        reason=Reason.LATE, prefill_worker_id="p1", waited_s=12.34, predicted_ttft_s=14.0
    )
    assert explanation(decision, Slo(), URLS.__getitem__) == (
        "Sent to http://pre:3 and http://one:1 after 12.3 s, behind all whose promises could still "
        "be kept: first token expected 14.0 s after its arrival, none promised."
    )
