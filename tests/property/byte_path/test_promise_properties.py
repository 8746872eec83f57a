"""Whatever a client sends about promises, it is understood or answered 400, and nothing else."""

import json
from typing import Any

from hfx_router.body.inspect import SLO_FIELDS, read_routing_fields
from hfx_router.body.splice import remove_members
from hfx_router.errors import error_body
from hfx_router.exchange.endpoints import ENDPOINTS
from hfx_router.exchange.promises import Promises, echo_line
from hfx_router.http1.request_reader import ParsedRequest
from hypothesis import given, settings
from hypothesis import strategies as st

from hfx_sgl.errors import InvalidRequestError
from hfx_sgl.policy.slo.config import SloConfig, SloRule, is_class_name
from hfx_sgl.policy.slo.resolve import Promise, SloSource
from hfx_sgl.slo import Slo

CHAT = {"chat": Slo(ttft_s=1.0)}
CONFIGS = st.sampled_from([
    SloConfig(),
    SloConfig(classes=CHAT),
    SloConfig(classes=CHAT, default_class="chat"),
    SloConfig(
        classes=CHAT,
        rules=(
            SloRule(class_name="chat", model="m"),
            SloRule(class_name="chat", api_key=b"k"),
            SloRule(class_name="chat", path="/generate"),
        ),
    ),
])  # fmt: skip
HEADER_NAMES = st.sampled_from([
    b"x-slo-ttft-ms", b"x-slo-tpot-ms", b"x-llm-d-slo-ttft-ms", b"x-llm-d-slo-tpot-ms",
    b"x-sgl-ttft-slo-ms", b"x-sgl-tps-slo", b"x-slo-class", b"x-hfx-slo", b"authorization", b"host",
])  # fmt: skip
HEADER_BYTES = (
    st.binary(max_size=12)
    | st.sampled_from([b"chat", b"1000", b"Bearer k", b"1e400", b"1e-400", b"nan", b"5e-324"])
    | st.floats().map(lambda number: repr(number).encode())
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)
BOUNDS = st.dictionaries(
    st.sampled_from(["ttft_ms", "tpot_ms", "e2e_ms"]), st.floats(width=16) | st.integers() | JSON
)
BODIES = st.fixed_dictionaries(
    {},
    optional={
        "slo": BOUNDS | JSON,
        "slo_class": st.sampled_from(["chat", "\ud800"]) | st.text(max_size=3) | JSON,
        "model": st.just("m") | JSON,
        "text": st.text(max_size=3),
    },
).map(lambda fields: json.dumps(fields).encode())
RAW_BODIES = st.lists(
    st.sampled_from([b'"slo":', b'"slo_class":', b'"model":', b"{", b"}", b",", b'"chat"', b"1",
                     b'"ttft_ms":', b"\xff", b'"\\ud800"', b"[", b"]", b"-", b"1e999", b'"'])
).map(b"".join)  # fmt: skip


def promise_of(
    config: SloConfig, headers: dict[bytes, bytes], body: bytes, path: str
) -> Promise | InvalidRequestError:
    endpoint = next(endpoint for endpoint in ENDPOINTS if endpoint.path == path)
    request = ParsedRequest(b"POST", path.encode(), list(headers.items()), False)
    try:
        return Promises(config).promise(request, read_routing_fields(body), endpoint)
    except InvalidRequestError as error:
        return error


@given(
    config=CONFIGS,
    headers=st.dictionaries(HEADER_NAMES, HEADER_BYTES, max_size=4),
    body=BODIES | RAW_BODIES,
    path=st.sampled_from(["/generate", "/v1/embeddings", "/tokenize"]),
)
@settings(max_examples=500, deadline=None)
def test_it_is_understood_or_a_400(
    config: SloConfig, headers: dict[bytes, bytes], body: bytes, path: str
) -> None:
    found = promise_of(config, headers, body, path)
    if isinstance(found, InvalidRequestError):
        assert found.http_status == 400
        assert found.param is None or found.message.startswith(f"{found.param}: ")
        assert json.loads(error_body(found))["error"]["param"] == found.param
        return
    assert found.is_bounded is (found.slo != Slo())
    assert found.class_name is None or is_class_name(found.class_name)
    line = echo_line(found)
    assert line.isascii()
    assert line.count(b"\r") == line.count(b"\n") == 1


@given(
    ttft_ms=st.floats(min_value=1e-6, max_value=1e12),
    tps=st.floats(min_value=1e-6, max_value=1e12),
    e2e_ms=st.floats(min_value=1e-6, max_value=1e12),
)
def test_bounds_arrive_as_they_were_stated(ttft_ms: float, tps: float, e2e_ms: float) -> None:
    headers = {b"x-slo-ttft-ms": repr(ttft_ms).encode(), b"x-sgl-tps-slo": repr(tps).encode()}
    body = json.dumps({"slo": {"e2e_ms": e2e_ms, "ttft_ms": 7, "tpot_ms": 7}}).encode()
    assert promise_of(SloConfig(), headers, body, "/generate") == Promise(
        slo=Slo(ttft_s=ttft_ms / 1000, tpot_s=1 / tps, e2e_s=e2e_ms / 1000),
        source=SloSource.HEADER,
    )


@given(body=BODIES)
def test_the_fields_of_promises_do_not_go_on(body: bytes) -> None:
    fields: dict[str, Any] = json.loads(body)
    kept = remove_members(body, SLO_FIELDS)
    left = {name: value for name, value in fields.items() if name not in ("slo", "slo_class")}
    assert json.dumps(json.loads(kept)) == json.dumps(left)
