"""Puts a decision into words and JSON, for people. Milliseconds begin here."""

import math
from collections.abc import Callable

from hfx_router.metrics.class_labels import shown_class
from hfx_router.scheduling.journal import Actual, Story
from hfx_sgl.policy.scheduler.decision import Candidate, Decision, Reason
from hfx_sgl.slo import Slo

NameOf = Callable[[str], str]
"""Returns what people call the worker with an id."""

_MS_PER_S = 1000.0


def rendered(decision: Decision, story: Story, at: str, name_of: NameOf) -> dict[str, object]:
    """Return one decision as JSON; `at` is when it was made."""
    slo = story.facts.slo
    return {
        "at": at,
        "request_id": story.shown_request_id,
        "class": shown_class(decision.class_name),
        "reason": decision.reason.value,
        "explanation": explanation(decision, slo, name_of),
        "worker": _name(decision.worker_id, name_of),
        "prefill_worker": _prefill_name(decision, name_of),
        "waited_ms": _ms(decision.waited_s),
        "slack_ms": _ms(decision.slack_s) if story.has_deadline else None,
        "promised": _times(ttft_s=slo.ttft_s, tpot_s=slo.tpot_s, e2e_s=slo.e2e_s),
        "predicted": _times(ttft_s=decision.predicted_ttft_s, tpot_s=decision.predicted_tpot_s),
        "actual": _rendered_actual(story.actual),
        "prompt_tokens": decision.num_prompt_tokens,
        "cached_prompt_tokens": decision.num_hit_tokens,
        "expected_output_tokens": decision.expected_output_tokens,
        "queue": {"waiting": decision.num_waiting, "late": decision.num_late},
        "candidates": [_rendered_candidate(one, name_of) for one in decision.candidates],
    }


def explanation(decision: Decision, slo: Slo, name_of: NameOf) -> str:
    """Return one sentence that says what was decided, and why."""
    waited = f"after {_words(decision.waited_s)}"
    where = _where(decision, name_of)
    expected = _expected(decision, slo)
    match decision.reason:
        case Reason.ON_TIME:
            return f"Sent to {where} {waited}, as the most urgent that it suited: {expected}."
        case Reason.PREFIX_HOME:
            return (
                f"Sent to {where} {waited}, where {decision.num_hit_tokens} of its "
                f"{decision.num_prompt_tokens} prompt tokens should be cached: {expected}."
            )
        case Reason.LATE:
            return (
                f"Sent to {where} {waited}, behind all whose promises could still be kept: "
                f"{expected}."
            )
        case Reason.AGED:
            return (
                f"Sent to {where} {waited}, which was long enough for others to give way: "
                f"{expected}."
            )
        case Reason.INFEASIBLE:
            return f"Sent away {waited}, because its promise could not be kept: {expected}."
        case Reason.STUCK:
            return f"Taken back from {where} that had not begun it {waited}; it waits again."
        case Reason.PASSED_OVER:
            return (
                f"Taken back from {where} {waited}, long after later ones were computed there: its "
                "hand-off has most likely got lost. It waits again."
            )


def _where(decision: Decision, name_of: NameOf) -> str:
    worker = _name(decision.worker_id, name_of) or "a worker"
    prefill = _prefill_name(decision, name_of)
    return worker if prefill is None else f"{prefill} and {worker}"


def _prefill_name(decision: Decision, name_of: NameOf) -> str | None:
    """Return who computes the prompt, where that is another than who answers."""
    prefill_id = decision.prefill_worker_id
    return None if prefill_id == decision.worker_id else _name(prefill_id, name_of)


def _expected(decision: Decision, slo: Slo) -> str:
    promised = f"{_words(slo.ttft_s)} promised" if math.isfinite(slo.ttft_s) else "none promised"
    ttft = _words(decision.predicted_ttft_s)
    return f"first token expected {ttft} after its arrival, {promised}"


def _rendered_actual(actual: Actual | None) -> dict[str, object] | None:
    if actual is None:
        return None
    ttft_s, tpot_s = actual.stream or (None, None)
    return {
        "status": actual.status,
        "ttft_ms": _ms(ttft_s),
        "tpot_ms": _ms(tpot_s),
        "promise_kept": actual.is_met,
    }


def _rendered_candidate(candidate: Candidate, name_of: NameOf) -> dict[str, object]:
    return {
        "worker": name_of(candidate.worker_id),
        "begins_in_ms": _ms(candidate.begins_in_s),
        "prefill_ms": _ms(candidate.prefill_s),
        "cached_prompt_tokens": candidate.num_hit_tokens,
        "decode_step_ms": _ms(candidate.step_s),
        "has_room": candidate.has_room,
    }


def _times(**times_s: float) -> dict[str, float | None]:
    return {f"{name.removesuffix('_s')}_ms": _ms(time_s) for name, time_s in times_s.items()}


def _name(worker_id: str | None, name_of: NameOf) -> str | None:
    return None if worker_id is None else name_of(worker_id)


def _ms(time_s: float | None) -> float | None:
    """Return milliseconds to the microsecond; None for what is unknown or unbounded."""
    if time_s is None or not math.isfinite(time_s):
        return None
    return round(time_s * _MS_PER_S, 3)


def _words(time_s: float) -> str:
    return f"{time_s:.1f} s" if time_s >= 10 else f"{time_s * _MS_PER_S:.0f} ms"
