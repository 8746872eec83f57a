"""JSON answers of the control plane, and the pass-through of a worker's."""

from collections.abc import Mapping

import orjson
from fastapi import Response

from hfx_router.errors import error_body, error_headers
from hfx_router.workers.ask import Answer
from hfx_sgl.errors import RequestError


def json_response(
    content: object, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Return `content` as JSON."""
    return Response(orjson.dumps(content), status, headers, media_type="application/json")


def error_response(error: RequestError, headers: Mapping[str, str] | None = None) -> Response:
    """Return one of our own errors in OpenAI's shape."""
    merged = dict(error_headers(error)) | dict(headers or {})
    return Response(error_body(error), error.http_status, merged)


def relay(answer: Answer) -> Response:
    """Return a complete answer of a worker as it came: status, content type and body."""
    assert answer.status is not None
    return Response(answer.body, answer.status, {"content-type": answer.content_type})
