import pytest
from hfx_router.exchange.endpoints import ENDPOINTS, Endpoint, PdSupport, PromptLogprobs

BY_PATH = {endpoint.path: endpoint for endpoint in ENDPOINTS}


def test_each_path_stands_once() -> None:
    assert len(BY_PATH) == len(ENDPOINTS)


@pytest.mark.parametrize(
    ("path", "id_prefix", "pd", "worker_target"),
    [
        ("/generate", "gnt-", PdSupport.PAIR, b"/generate"),
        ("/v1/chat/completions", "chatcmpl-", PdSupport.PAIR, b"/v1/chat/completions"),
        ("/v1/completions", "cmpl-", PdSupport.PAIR, b"/v1/completions"),
        ("/v1/responses", "resp-", PdSupport.NONE, b"/v1/responses"),
        ("/v1/embeddings", "req-", PdSupport.NONE, b"/v1/embeddings"),
        ("/rerank", "req-", PdSupport.NONE, b"/v1/rerank"),
        ("/v1/rerank", "req-", PdSupport.NONE, b"/v1/rerank"),
        ("/v1/score", "req-", PdSupport.NONE, b"/v1/score"),
        ("/v1/classify", "req-", PdSupport.NONE, b"/v1/classify"),
        ("/tokenize", "req-", PdSupport.ANY, b"/tokenize"),
        ("/v1/detokenize", "req-", PdSupport.ANY, b"/v1/detokenize"),
    ],
)
def test_table(path: str, id_prefix: str, pd: PdSupport, worker_target: bytes) -> None:
    endpoint = BY_PATH[path]
    assert endpoint.id_prefix == id_prefix
    assert endpoint.pd is pd
    assert endpoint.worker_target == worker_target


def test_only_generate_answers_with_the_prompt_s_logprobs() -> None:
    places = {e.path: e.prompt_logprobs for e in ENDPOINTS}
    assert {path for path, place in places.items() if place is not PromptLogprobs.NONE} == {
        "/generate", "/v1/completions",
    }  # fmt: skip


def test_merging_needs_a_pair() -> None:
    for endpoint in ENDPOINTS:
        assert endpoint.pd is PdSupport.PAIR or endpoint.prompt_logprobs is PromptLogprobs.NONE


def test_defaults_are_the_cautious_ones() -> None:
    endpoint = Endpoint(path="/x")
    assert endpoint.pd is PdSupport.NONE
    assert endpoint.prompt_logprobs is PromptLogprobs.NONE
