"""The errors of the project, each with the answer that a client gets for it.

HfxError
├── ConfigError                  bad configuration, exit status 2
├── LaunchError                  a process of a cluster did not start, exit status 1
├── LoadTestError                a load test could not be carried out, exit status 1
├── TransferError                bytes did not move from one memory to another, exit status 1
└── RequestError                 anything that ends a request with an answer of our own
    ├── InvalidRequestError      400, or the 4xx that the subclass names
    │   ├── MalformedHttpError       400, closes the connection
    │   ├── PayloadTooLargeError     413
    │   ├── HeadersTooLargeError     431
    │   ├── UnauthorizedError        401
    │   ├── ForbiddenError           403
    │   ├── NotFoundError            404
    │   ├── MethodNotAllowedError    405
    │   ├── ConflictError            409
    │   └── RequestReadTimeoutError  408
    ├── RejectedError            429, never queued
    ├── EvictedError             429, left the queue
    ├── UnavailableError         503, nobody to serve it
    ├── NotSupportedError        501
    └── UpstreamError            502, a worker failed it
        ├── UpstreamTimeoutError     504
        └── HandoffError             502, the KV hand-off failed
"""

from enum import StrEnum


class HfxError(Exception):
    """Base of all errors that this project raises."""


class ConfigError(HfxError):
    """Bad configuration. `problems` holds one `field: message` line for each."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class LaunchError(HfxError):
    """A process of a cluster did not start or did not become ready."""


class LoadTestError(HfxError):
    """The server under test cannot be tested."""


class TransferFault(StrEnum):
    """Why bytes did not move; also a metric label."""

    UNAVAILABLE = "unavailable"
    """The backend cannot run on this machine: a library or a device is missing."""
    UNREACHABLE = "unreachable"
    """The peer refused, or nobody answers at its address."""
    FIRST_CONTACT_TIMEOUT = "first_contact_timeout"
    """The peer accepted the connection and then stayed silent."""
    STALLED = "stalled"
    """Bytes stopped moving for longer than the limit."""
    PEER_FAILED = "peer_failed"
    """The peer died or refused in the middle."""
    PROTOCOL = "protocol"
    """What answered does not speak our protocol."""
    UNAUTHORIZED = "unauthorized"
    """The peer did not accept our token."""
    DIGEST_MISMATCH = "digest_mismatch"
    """The bytes that arrived are not those that were promised."""
    GENERATION_CHANGED = "generation_changed"
    """The source holds other weights than when the transfer began."""
    LEASE_EXPIRED = "lease_expired"
    """The source no longer promises to keep the bytes in place."""
    INCOMPATIBLE = "incompatible"
    """The two sides cannot exchange these bytes: other names, shapes, layouts or page sizes."""
    NO_SOURCE_LEFT = "no_source_left"
    """Every source was tried and failed, the disk included."""
    ABORTED = "aborted"
    """One side gave up, and said so."""


class TransferError(HfxError):
    """Bytes did not move from one memory to another.

    Args:
        message: what went wrong.
        fault: why, in one of few words.
        quarantined: whether bytes may still land in the local memory; it then stays pinned.
    """

    def __init__(self, message: str, *, fault: TransferFault, quarantined: bool = False) -> None:
        super().__init__(message)
        self.fault = fault
        self.quarantined = quarantined


class RequestError(HfxError):
    """Ends one request. Subclasses fix the status; instances say what went wrong.

    Args:
        message: what went wrong and what to do about it.
        code: stable machine-readable code; the class's own when omitted.
        param: the offending field or header; None when no single one is at fault.
        retry_after_s: when waiting helps, for how long; None when it does not.
    """

    http_status = 500
    error_type = "server_error"
    default_code = "internal_error"
    closes_connection = False

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.param = param
        self.retry_after_s = retry_after_s


class InvalidRequestError(RequestError):
    """The client sent something that cannot be served."""

    http_status = 400
    error_type = "invalid_request_error"
    default_code = "invalid_request"


class MalformedHttpError(InvalidRequestError):
    """The bytes are not HTTP/1.1; the connection cannot be used any further."""

    default_code = "malformed_http"
    closes_connection = True


class PayloadTooLargeError(InvalidRequestError):
    """The body exceeds the limit; the rest of it is not read."""

    http_status = 413
    default_code = "payload_too_large"
    closes_connection = True


class HeadersTooLargeError(InvalidRequestError):
    """Request line and headers exceed the limit."""

    http_status = 431
    default_code = "headers_too_large"
    closes_connection = True


class UnauthorizedError(InvalidRequestError):
    """The API key is missing or wrong."""

    http_status = 401
    error_type = "authentication_error"
    default_code = "invalid_api_key"


class ForbiddenError(InvalidRequestError):
    """The API key is good, but not for this."""

    http_status = 403
    error_type = "permission_error"
    default_code = "forbidden"


class NotFoundError(InvalidRequestError):
    """No such path, model or worker."""

    http_status = 404
    default_code = "not_found"


class MethodNotAllowedError(InvalidRequestError):
    """The path exists, with another method."""

    http_status = 405
    default_code = "method_not_allowed"


class ConflictError(InvalidRequestError):
    """It contradicts what is there already."""

    http_status = 409
    default_code = "conflict"


class RequestReadTimeoutError(InvalidRequestError):
    """The client took too long to send its request."""

    http_status = 408
    default_code = "request_read_timeout"
    closes_connection = True


class RejectedError(RequestError):
    """Turned away at admission, before any queue."""

    http_status = 429
    error_type = "rate_limit_error"
    default_code = "queue_full"


class EvictedError(RequestError):
    """Waited in the queue and had to leave it."""

    http_status = 429
    error_type = "rate_limit_error"
    default_code = "queue_deadline_exceeded"


class UnavailableError(RequestError):
    """Nobody can serve the request at the moment."""

    http_status = 503
    error_type = "service_unavailable"
    default_code = "no_workers"


class NotSupportedError(RequestError):
    """The endpoint exists, but not in this deployment mode."""

    http_status = 501
    error_type = "not_supported"
    default_code = "not_supported"


class UpstreamError(RequestError):
    """A worker failed the request before it answered."""

    http_status = 502
    error_type = "upstream_error"
    default_code = "upstream_unavailable"


class UpstreamTimeoutError(UpstreamError):
    """The request's time was up before the worker finished."""

    http_status = 504
    default_code = "upstream_timeout"


class HandoffError(UpstreamError):
    """The hand-off between prefill and decode failed."""

    default_code = "kv_transfer_failed"
