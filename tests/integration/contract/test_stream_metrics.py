"""Time to first token and per token, measured on streams that pass and scraped over HTTP."""

import re

import pytest
from support.engine import EngineState
from support.mock_worker import RecordingWorker
from support.raw_client import fetch
from support.router import free_port, pd_flags, running_router

# Path, body, and the tokens of the answer.
STREAMS = {
    "generate": ("/generate", b'{"stream":true,"sampling_params":{"max_new_tokens":5}}'),
    "chat": ("/v1/chat/completions", b'{"stream":true,"messages":[],"max_tokens":5}'),
    "chat with usage": (
        "/v1/chat/completions",
        b'{"stream":true,"messages":[],"max_tokens":5,"stream_options":{"include_usage":true}}',
    ),
    "completions": ("/v1/completions", b'{"stream":true,"prompt":"a","max_tokens":5}'),
    "merged logprobs": (
        "/generate",
        b'{"text":"a","stream":true,"return_logprob":true,"sampling_params":{"max_new_tokens":5}}',
    ),
}


def _value(scraped: str, name: str) -> float:
    """Return the sum over all labels of one sample name."""
    values = re.findall(rf"^{name}(?:\{{[^}}]*\}})? (\S+)$", scraped, re.MULTILINE)
    return sum(map(float, values))


@pytest.mark.parametrize("mode", ["regular", "pair"])
@pytest.mark.parametrize(("path", "body"), STREAMS.values(), ids=STREAMS.keys())
async def test_streams_are_measured(path: str, body: bytes, mode: str) -> None:
    port = free_port()
    state = EngineState(
        disaggregation_mode="decode" if mode == "pair" else "null", token_interval_s=0.002
    )
    async with RecordingWorker(role="prefill") as prefill, RecordingWorker(state=state) as worker:
        flags = pd_flags([prefill], [worker]) if mode == "pair" else ["--worker-urls", worker.url]
        overrides = {"disable_prometheus": False, "prometheus_port": port}
        async with running_router(*flags, **overrides) as router:
            assert (await router.post(path, body)).is_complete
            assert (await router.post(path, body.replace(b"true", b"false", 1))).status == 200
            scraped = (await fetch(f"http://127.0.0.1:{port}", "GET", "/metrics")).body.decode()
    assert _value(scraped, "smg_router_ttft_seconds_count") == 1
    assert 0 < _value(scraped, "smg_router_ttft_seconds_sum") < 1
    assert _value(scraped, "smg_router_tpot_seconds_count") == 1
    assert 0.001 < _value(scraped, "smg_router_tpot_seconds_sum") < 0.2
    assert _value(scraped, "smg_router_requests_total") == 2
    tokens = re.findall(
        r'^smg_router_tokens_total\{.*token_type="output".*\} (\S+)$', scraped, re.M
    )
    assert list(map(float, tokens)) == [5]
