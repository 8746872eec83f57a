import json

import pytest
from hfx_router.errors import error_body, error_event, error_headers, render_error, status_line

from hfx_sgl.errors import (
    HandoffError,
    InvalidRequestError,
    RejectedError,
    RequestError,
    UnauthorizedError,
    UnavailableError,
)

ERROR = InvalidRequestError('n: "x" is no number', param="n")


def test_the_body_has_the_shape_of_the_openai_api() -> None:
    assert json.loads(error_body(ERROR)) == {
        "error": {
            "message": 'n: "x" is no number',
            "type": "invalid_request_error",
            "param": "n",
            "code": "invalid_request",
        }
    }
    assert json.loads(error_body(HandoffError("x")))["error"]["param"] is None


@pytest.mark.parametrize(
    ("error", "more"),
    [
        (ERROR, {}),
        (RejectedError("x", retry_after_s=0.2), {"retry-after": "1"}),
        (RejectedError("x", code="rate_limited", retry_after_s=2.01), {"retry-after": "3"}),
        (UnavailableError("x", retry_after_s=60.0), {"retry-after": "60"}),
        (UnauthorizedError("x"), {"www-authenticate": "Bearer"}),
    ],
)
def test_headers(error: RequestError, more: dict[str, str]) -> None:
    headers = error_headers(error)
    assert dict(headers) == {
        "content-type": "application/json",
        "x-hfx-dropped-reason": error.code,
        "x-smg-error-code": error.code,
        **more,
    }
    assert len(headers) == 3 + len(more)


def test_an_event_carries_the_same_body() -> None:
    assert error_event(ERROR) == b"data: " + error_body(ERROR) + b"\n\n"
    assert b"\n" not in error_body(InvalidRequestError("two\nlines"))


@pytest.mark.parametrize(
    ("status", "line"),
    [
        (200, b"HTTP/1.1 200 OK\r\n"),
        (429, b"HTTP/1.1 429 Too Many Requests\r\n"),
        (499, b"HTTP/1.1 499 Unknown\r\n"),
        (999, b"HTTP/1.1 999 Unknown\r\n"),
    ],
)
def test_status_line(status: int, line: bytes) -> None:
    assert status_line(status) == line


def test_a_whole_answer() -> None:
    answer = render_error(HandoffError("über"), b"x-request-id: r1\r\nconnection: close\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.split(b"\r\n") == [
        b"HTTP/1.1 502 Bad Gateway",
        b"content-type: application/json",
        b"x-hfx-dropped-reason: kv_transfer_failed",
        b"x-smg-error-code: kv_transfer_failed",
        b"x-request-id: r1",
        b"connection: close",
        b"content-length: %d" % len(body),
    ]
    assert body == error_body(HandoffError("über"))
