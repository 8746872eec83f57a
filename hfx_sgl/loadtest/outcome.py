"""Judges how a request ended. Whatever keeps an answer from being whole makes it a miss."""

import math
from dataclasses import dataclass
from http import HTTPStatus

from hfx_sgl.loadtest.answer import StreamedAnswer
from hfx_sgl.loadtest.settings import LoadSettings, OutputLengths, TokenCount
from hfx_sgl.results.record import RequestRecord, Status
from hfx_sgl.workload.planned import PlannedRequest

_REJECTIONS = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)
_MESSAGE_CHARS = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What was seen of one request. Instants are on the run's own clock."""

    scheduled_at_s: float
    sent_at_s: float
    http_status: int | None
    """None: no answer began."""
    headers: dict[bytes, bytes]
    answer: StreamedAnswer
    """Empty unless the status is 200 and the answer a stream."""
    error_body: bytes
    """The beginning of any other answer."""
    broken: str | None
    """What broke the connection; None when the answer ended as HTTP ends answers."""
    given_up: str | None
    """Why the client stopped waiting; None when it did not."""


def record_of(planned: PlannedRequest, seen: Observation, settings: LoadSettings) -> RequestRecord:
    """Return the record of a request that has ended."""
    answer = seen.answer
    num_tokens = _num_tokens(answer, settings.token_count)
    status, error = _judge(planned, seen, settings, num_tokens)
    is_ok = status is Status.OK
    ttft_s = tpot_s = e2e_s = None
    if answer.first_at_s is not None and answer.last_at_s is not None:
        ttft_s = answer.first_at_s - seen.sent_at_s
        if is_ok:
            e2e_s = answer.last_at_s - seen.sent_at_s
        if is_ok and num_tokens > 1:
            tpot_s = (answer.last_at_s - answer.first_at_s) / (num_tokens - 1)
    prompt_tokens = answer.prompt_tokens
    return RequestRecord(
        request_id=planned.request_id,
        class_name=planned.class_name,
        scheduled_at_s=seen.scheduled_at_s,
        sent_at_s=seen.sent_at_s,
        status=status,
        prompt_tokens=planned.prompt.num_tokens if prompt_tokens is None else prompt_tokens,
        output_tokens=num_tokens,
        ttft_s=ttft_s,
        tpot_s=tpot_s,
        e2e_s=e2e_s,
        ttft_slo_s=_finite(planned.slo.ttft_s),
        tpot_slo_s=_finite(planned.slo.tpot_s),
        e2e_slo_s=_finite(planned.slo.e2e_s),
        cached_tokens=answer.cached_tokens or 0,
        prefill_worker=_name(seen, b"x-hfx-prefill-worker"),
        worker=_name(seen, b"x-hfx-decode-worker") or _name(seen, b"x-hfx-worker"),
        error=error,
        itls_s=tuple(answer.itls_s) if settings.keeps_itls and is_ok else None,
    )


def _num_tokens(answer: StreamedAnswer, token_count: TokenCount) -> int:
    if token_count is TokenCount.EVENTS or answer.output_tokens is None:
        return answer.num_text_events
    return answer.output_tokens


def _judge(
    planned: PlannedRequest, seen: Observation, settings: LoadSettings, num_tokens: int
) -> tuple[Status, str | None]:
    if seen.given_up is not None:
        return Status.TIMED_OUT, seen.given_up
    if seen.http_status is None:
        return Status.FAILED, seen.broken or "the connection ended without an answer"
    if seen.http_status != HTTPStatus.OK:
        body = seen.error_body.decode("utf-8", "replace")[:_MESSAGE_CHARS]
        status = Status.REJECTED if seen.http_status in _REJECTIONS else Status.FAILED
        return status, f"HTTP {seen.http_status}: {body}".rstrip(": ")
    error = _stream_error(planned, seen, settings, num_tokens)
    return (Status.OK, None) if error is None else (Status.FAILED, error)


def _stream_error(
    planned: PlannedRequest, seen: Observation, settings: LoadSettings, num_tokens: int
) -> str | None:
    """Return what is wrong with an answer of status 200."""
    answer = seen.answer
    if answer.error is not None:
        return answer.error
    if seen.broken is not None:
        return seen.broken
    if seen.error_body:
        return "the answer is not an event stream"
    if not answer.is_done:
        return "the stream ended without [DONE]"
    if num_tokens == 0 or answer.first_at_s is None:
        return "the stream held no output"
    is_imposed = settings.output_lengths is not OutputLengths.NATURAL
    if is_imposed and num_tokens < planned.num_output_tokens:
        return f"{num_tokens} of {planned.num_output_tokens} tokens"
    return None


def _finite(bound_s: float) -> float | None:
    return bound_s if bound_s < math.inf else None


def _name(seen: Observation, header: bytes) -> str | None:
    value = seen.headers.get(header)
    return None if value is None else value.decode("latin-1")
