import pytest
from hfx_router.exchange.endpoints import ENDPOINTS
from hfx_router.metrics.paths import KNOWN_PATHS, endpoint_of, fold_method, fold_path, method_of
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("path", "folded"),
    [
        ("/v1/chat/completions", "/v1/chat/completions"),
        ("/workers", "/workers"),
        ("/workers/7d9a5be8", "/workers/{worker_id}"),
        ("/v1/models/org/model", "/v1/models/{model_id}"),
        ("/v1/responses/resp_1", "other"),
        ("/v1/chat/completions/", "other"),
        ("/generate?x=1", "other"),
        ("/etc/passwd", "other"),
        ("", "other"),
    ],
)
def test_paths_are_folded(path: str, folded: str) -> None:
    assert fold_path(path) == folded


@given(st.text() | st.text().map("/workers/".__add__))
def test_no_text_makes_a_new_path(path: str) -> None:
    folded = fold_path(path)
    assert folded == "other" or folded in KNOWN_PATHS
    assert fold_path(folded) == folded


@pytest.mark.parametrize(
    ("path", "endpoint"),
    [
        ("/v1/chat/completions", "chat"),
        ("/generate", "generate"),
        ("/v1/completions", "completions"),
        ("/rerank", "rerank"),
        ("/v1/rerank", "rerank"),
        ("/v1/responses", "responses"),
        ("/v1/embeddings", "other"),
        ("/nope", None),
        ("other", None),
        ("/health", None),
        ("/workers/1", None),
    ],
)
def test_endpoints_are_those_of_the_contract(path: str, endpoint: str | None) -> None:
    assert endpoint_of(path) == endpoint


@pytest.mark.parametrize("path", [endpoint.path for endpoint in ENDPOINTS])
def test_every_routed_path_is_known(path: str) -> None:
    assert fold_path(path) == path
    assert method_of(path) == "POST"
    assert endpoint_of(path) is not None


def test_methods() -> None:
    assert [fold_method(method) for method in ("GET", "DELETE", "BREW")] == [
        "GET",
        "DELETE",
        "OTHER",
    ]
    assert [method_of(path) for path in ("/generate", "/health", "other")] == [
        "POST",
        "GET",
        "OTHER",
    ]
