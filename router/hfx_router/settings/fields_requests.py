"""What one request may take, and how many may be there at once."""

from functools import partial

from hfx_router.settings.field import U32_MAX, YEAR_SECS, Arity, Group, SettingsFields, setting
from hfx_router.settings.values import HeaderNames, Origins

_requests = partial(setting, group=Group.REQUESTS)
_admission = partial(setting, group=Group.ADMISSION)


class RequestFields(SettingsFields):
    """Limits and headers of a single request."""

    request_timeout_secs: int = _requests(
        1800,
        "Seconds from the request to the end of its answer, retries included.",
        ge=1,
        le=YEAR_SECS,
    )
    max_payload_size: int = _requests(
        512 * 1024 * 1024,
        "Bytes that a request body may have; a longer one is answered 413.",
        ge=1,
        le=2**40,
    )
    max_header_bytes: int = _requests(
        65536,
        "Bytes that request line and headers may have together; more is answered 431.",
        ge=1024,
        le=2**24,
    )
    request_id_headers: HeaderNames | None = _requests(
        None,
        "Headers in which to look for a request id, first match wins. Unset: x-request-id, "
        "x-correlation-id, x-trace-id, request-id.",
        arity=Arity.ANY,
        metavar="HEADER",
    )
    cors_allowed_origins: Origins = _requests(
        (),
        "Origins that browsers may call from; none means any.",
        arity=Arity.ANY,
        metavar="ORIGIN",
    )
    response_worker_headers: bool = _requests(
        False,
        "Name the workers in the answer: x-hfx-worker, or x-hfx-prefill-worker and "
        "x-hfx-decode-worker. Off, because it tells clients about the inside.",
    )


class AdmissionFields(SettingsFields):
    """The concurrency limit and the queue in front of it."""

    max_concurrent_requests: int = _admission(
        -1, "Requests that may be with workers at once; -1 for no limit.", ge=-1, le=U32_MAX
    )
    queue_size: int = _admission(
        100,
        "Requests that may wait at the concurrency limit; 0 answers 429 at once.",
        ge=0,
        le=U32_MAX,
    )
    queue_timeout_secs: int = _admission(
        60, "Seconds that a request may wait at the concurrency limit.", ge=1, le=YEAR_SECS
    )
    rate_limit_tokens_per_second: int | None = _admission(
        None, "Requests let in per second; unset for no limit.", ge=1, le=U32_MAX
    )
