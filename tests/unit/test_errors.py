import inspect

import pytest

from hfx_sgl import errors
from hfx_sgl.errors import ConfigError, HfxError, RequestError, UpstreamError


def classes() -> dict[str, type[HfxError]]:
    return {
        name: item
        for name, item in inspect.getmembers(errors, inspect.isclass)
        if issubclass(item, HfxError)
    }


REQUEST_ERRORS = [item for item in classes().values() if issubclass(item, RequestError)]


@pytest.mark.parametrize("error_class", REQUEST_ERRORS)
def test_each_error_has_an_answer(error_class: type[RequestError]) -> None:
    error = error_class("what went wrong")
    assert 400 <= error.http_status < 600
    assert str(error) == error.message == "what went wrong"
    assert error.code == error_class.default_code
    assert error.code.replace("_", "").isalpha()
    assert error.code.islower()
    assert error.error_type
    assert (error.param, error.retry_after_s) == (None, None)


def test_what_an_instance_says_goes_before_what_its_class_says() -> None:
    error = UpstreamError("x", code="upstream_reset", param="n", retry_after_s=2.5)
    assert (error.code, error.param, error.retry_after_s) == ("upstream_reset", "n", 2.5)
    assert UpstreamError("x").code == "upstream_unavailable"


@pytest.mark.parametrize(
    ("name", "http_status", "code"),
    [
        ("InvalidRequestError", 400, "invalid_request"),
        ("MalformedHttpError", 400, "malformed_http"),
        ("UnauthorizedError", 401, "invalid_api_key"),
        ("ForbiddenError", 403, "forbidden"),
        ("NotFoundError", 404, "not_found"),
        ("MethodNotAllowedError", 405, "method_not_allowed"),
        ("RequestReadTimeoutError", 408, "request_read_timeout"),
        ("ConflictError", 409, "conflict"),
        ("PayloadTooLargeError", 413, "payload_too_large"),
        ("RejectedError", 429, "queue_full"),
        ("EvictedError", 429, "queue_deadline_exceeded"),
        ("HeadersTooLargeError", 431, "headers_too_large"),
        ("RequestError", 500, "internal_error"),
        ("NotSupportedError", 501, "not_supported"),
        ("UpstreamError", 502, "upstream_unavailable"),
        ("HandoffError", 502, "kv_transfer_failed"),
        ("UnavailableError", 503, "no_workers"),
        ("UpstreamTimeoutError", 504, "upstream_timeout"),
    ],
)
def test_codes_are_a_contract(name: str, http_status: int, code: str) -> None:
    error_class = classes()[name]
    assert issubclass(error_class, RequestError)
    assert (error_class.http_status, error_class.default_code) == (http_status, code)


def test_only_what_leaves_the_connection_in_doubt_closes_it() -> None:
    assert {item.__name__ for item in REQUEST_ERRORS if item.closes_connection} == {
        "MalformedHttpError",
        "PayloadTooLargeError",
        "HeadersTooLargeError",
        "RequestReadTimeoutError",
    }


def test_a_configuration_error_lists_its_problems() -> None:
    error = ConfigError("port: must be positive", "policy: unknown")
    assert error.problems == ("port: must be positive", "policy: unknown")
    assert str(error) == "port: must be positive\npolicy: unknown"
    assert not isinstance(error, RequestError)


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    tree = errors.__doc__
    assert tree is not None
    lines = tree.splitlines()
    for name, item in classes().items():
        line = next(line for line in lines if line.split("─ ")[-1].split()[:1] == [name])
        depth = len(item.__mro__) - len(HfxError.__mro__)
        assert line.index(name) == 4 * depth, line
