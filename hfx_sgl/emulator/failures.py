"""Why a request is not served, and how the real server words that in JSON.

SGLang has one shape for bodies that its schema rejects and two for everything else: a short one
for wrong values on its native endpoints, the long one of OpenAI's endpoints elsewhere.
"""

from http import HTTPStatus
from typing import Any

from hfx_sgl.errors import HfxError

Json = dict[str, Any]


class BodyError(HfxError):
    """The body does not fit the endpoint's schema; a 400 on every endpoint."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def json(self) -> Json:
        """Return the body of the answer."""
        return error_json(self.message, "Bad Request", HTTPStatus.BAD_REQUEST)


class SamplingError(BodyError):
    """`sampling_params` of the native endpoint has an unknown field or a value of a wrong type."""

    def json(self) -> Json:
        """Return the body of the answer."""
        return {"error": self.message}


class ValueRefused(HfxError):
    """A field fits the schema and has a value that cannot be served; a 400."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class Failure:
    """How a request ended that got as far as the engine, or would have.

    Args:
        status: what a whole answer has; an event stream has begun with 200 by then.
        is_early: the request never reached the scheduler, so little is reported about it.
    """

    __slots__ = ("is_early", "message", "status")

    def __init__(self, status: HTTPStatus, message: str, *, is_early: bool = False) -> None:
        self.status = status
        self.message = message
        self.is_early = is_early

    def native_json(self) -> Json:
        """Return the whole answer of a native endpoint."""
        if self.status == HTTPStatus.BAD_REQUEST:
            return native_error(self.message)
        return error_json(self.message, str(self.status.value), self.status)

    def openai_json(self) -> Json:
        """Return the whole answer of an OpenAI endpoint."""
        if self.status == HTTPStatus.BAD_REQUEST:
            return refused_json(self.message)
        return error_json(self.message, str(self.status.value), self.status)

    def event_json(self) -> Json:
        """Return the event that tells an OpenAI stream."""
        return {"error": error_json(self.message, self.status.name, self.status)}


def native_error(message: str) -> Json:
    """Return the native endpoints' body for a wrong value."""
    return {"error": {"message": message}}


def native_event(message: str) -> Json:
    """Return the native endpoints' event for a wrong value."""
    return {
        "error": {
            "message": message,
            "type": "invalid_request_error",
            "code": HTTPStatus.BAD_REQUEST.value,
            "retryable": False,
        }
    }


def refused_json(message: str) -> Json:
    """Return the OpenAI endpoints' body for a wrong value."""
    return error_json(message, "BadRequestError", HTTPStatus.BAD_REQUEST)


def error_json(message: str, kind: str, status: HTTPStatus) -> Json:
    """Return an error of the long shape."""
    return {
        "object": "error",
        "message": message,
        "type": kind,
        "param": None,
        "code": status.value,
    }
