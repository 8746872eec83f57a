"""The request paths that metrics may name; the rest is folded, so clients cannot add series."""

from typing import NamedTuple

OTHER = "other"

KNOWN_METHODS = frozenset({"GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"})


class KnownPath(NamedTuple):
    """What is fixed about one path."""

    method: str
    """The method it is counted under when the recorder does not name one."""
    endpoint: str | None
    """The `endpoint` label of routed requests; None for paths that this router answers itself."""


# The endpoint labels are those sglang-router uses in HTTP mode: it names five endpoints and
# reports every other routed path as "other".
KNOWN_PATHS: dict[str, KnownPath] = {
    "/generate": KnownPath("POST", "generate"),
    "/v1/chat/completions": KnownPath("POST", "chat"),
    "/v1/completions": KnownPath("POST", "completions"),
    "/rerank": KnownPath("POST", "rerank"),
    "/v1/rerank": KnownPath("POST", "rerank"),
    "/v1/responses": KnownPath("POST", "responses"),
    "/v1/embeddings": KnownPath("POST", OTHER),
    "/v1/score": KnownPath("POST", OTHER),
    "/v1/classify": KnownPath("POST", OTHER),
    "/tokenize": KnownPath("POST", OTHER),
    "/v1/tokenize": KnownPath("POST", OTHER),
    "/detokenize": KnownPath("POST", OTHER),
    "/v1/detokenize": KnownPath("POST", OTHER),
    "/v1/models": KnownPath("GET", None),
    "/v1/models/{model_id}": KnownPath("GET", None),
    "/health": KnownPath("GET", None),
    "/liveness": KnownPath("GET", None),
    "/readiness": KnownPath("GET", None),
    "/healthz": KnownPath("GET", None),
    "/readyz": KnownPath("GET", None),
    "/health_generate": KnownPath("GET", None),
    "/server_info": KnownPath("GET", None),
    "/get_server_info": KnownPath("GET", None),
    "/model_info": KnownPath("GET", None),
    "/get_model_info": KnownPath("GET", None),
    "/get_loads": KnownPath("GET", None),
    "/v1/loads": KnownPath("GET", None),
    "/engine_metrics": KnownPath("GET", None),
    "/flush_cache": KnownPath("POST", None),
    "/debug/decisions": KnownPath("GET", None),
    "/debug/pairs": KnownPath("GET", None),
    "/workers": KnownPath("GET", None),
    "/workers/{worker_id}": KnownPath("GET", None),
}

_TEMPLATES: tuple[tuple[str, str], ...] = (
    ("/workers/", "/workers/{worker_id}"),
    ("/v1/models/", "/v1/models/{model_id}"),
)

OTHER_METHOD = "OTHER"
"""The word of sglang-router for a method that it does not know."""

_UNKNOWN = KnownPath(OTHER_METHOD, None)


def fold_path(path: str) -> str:
    """Return `path` if it is known, its template if it carries an id, otherwise `other`."""
    if path in KNOWN_PATHS:
        return path
    for prefix, template in _TEMPLATES:
        if path.startswith(prefix):
            return template
    return OTHER


def fold_method(method: str) -> str:
    """Return a known method as it is and any other text as `OTHER`."""
    return method if method in KNOWN_METHODS else OTHER_METHOD


def method_of(path: str) -> str:
    """Return the method that a folded path is counted under."""
    return KNOWN_PATHS.get(path, _UNKNOWN).method


def endpoint_of(path: str) -> str | None:
    """Return the `endpoint` label of a path; None when requests to it are not routed to workers."""
    return KNOWN_PATHS.get(fold_path(path), _UNKNOWN).endpoint
