"""Renders our own errors as OpenAI's API does. Answers of workers never come through here."""

from http import HTTPStatus
from math import ceil

import orjson

from hfx_sgl.errors import RequestError


def error_body(error: RequestError) -> bytes:
    """Return the JSON body of an error."""
    return orjson.dumps(
        {
            "error": {
                "message": error.message,
                "type": error.error_type,
                "param": error.param,
                "code": error.code,
            }
        }
    )


def error_headers(error: RequestError) -> list[tuple[str, str]]:
    """Return the headers of an error, without framing and request id."""
    headers = [
        ("content-type", "application/json"),
        ("x-hfx-dropped-reason", error.code),
        ("x-smg-error-code", error.code),
    ]
    if error.retry_after_s is not None:
        headers.append(("retry-after", str(max(1, ceil(error.retry_after_s)))))
    if error.http_status == HTTPStatus.UNAUTHORIZED:
        headers.append(("www-authenticate", "Bearer"))
    return headers


def error_event(error: RequestError) -> bytes:
    """Return the error as one server-sent event, for a stream that has begun."""
    return b"data: " + error_body(error) + b"\n\n"


def status_line(status: int) -> bytes:
    """Return the HTTP/1.1 status line of a status, with its line end."""
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = "Unknown"
    return f"HTTP/1.1 {status} {phrase}\r\n".encode()


def render_error(error: RequestError, extra_lines: bytes) -> bytes:
    """Return the whole HTTP answer of an error; `extra_lines` are complete header lines."""
    body = error_body(error)
    headers = "".join(f"{name}: {value}\r\n" for name, value in error_headers(error)).encode()
    return b"%b%b%bcontent-length: %d\r\n\r\n%b" % (
        status_line(error.http_status),
        headers,
        extra_lines,
        len(body),
        body,
    )
