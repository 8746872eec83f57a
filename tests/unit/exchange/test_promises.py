"""What is read from headers and body, and what is told about it."""

import math
from typing import Any

import pytest
from hfx_router.body.inspect import read_routing_fields
from hfx_router.exchange.endpoints import ENDPOINTS
from hfx_router.exchange.promises import Promises, body_bounds, echo_line, header_bounds
from hfx_router.http1.request_reader import ParsedRequest

from hfx_sgl.errors import InvalidRequestError
from hfx_sgl.policy.slo.config import SloConfig, SloRule
from hfx_sgl.policy.slo.resolve import NO_PROMISE, Promise, SloSource
from hfx_sgl.slo import Slo

BY_PATH = {endpoint.path: endpoint for endpoint in ENDPOINTS}
CHAT = Slo(ttft_s=1.0, tpot_s=0.05)
CONFIG = SloConfig(
    classes={"chat": CHAT, "batch": Slo(e2e_s=60.0)},
    rules=(SloRule(class_name="batch", model="big"), SloRule(class_name="chat", api_key=b"k")),
)


def promise_of(
    headers: dict[bytes, bytes],
    body: bytes = b"{}",
    config: SloConfig = CONFIG,
    path: str = "/generate",
) -> Promise:
    request = ParsedRequest(b"POST", path.encode(), list(headers.items()), False)
    return Promises(config).promise(request, read_routing_fields(body), BY_PATH[path])


@pytest.mark.parametrize(
    ("headers", "slo"),
    [
        ({}, Slo()),
        ({b"x-slo-class": b"chat", b"x-hfx-slo": b"1"}, Slo()),
        ({b"x-slo-ttft-ms": b"500"}, Slo(ttft_s=0.5)),
        ({b"x-slo-tpot-ms": b" 12.5 "}, Slo(tpot_s=0.0125)),
        ({b"x-llm-d-slo-ttft-ms": b"1e3"}, Slo(ttft_s=1.0)),
        ({b"x-llm-d-slo-tpot-ms": b"4E+1"}, Slo(tpot_s=0.04)),
        ({b"x-sgl-ttft-slo-ms": b"100"}, Slo(ttft_s=0.1)),
        ({b"x-sgl-tps-slo": b"25"}, Slo(tpot_s=0.04)),
        (
            {b"x-sgl-ttft-slo-ms": b"3", b"x-llm-d-slo-ttft-ms": b"2", b"x-slo-ttft-ms": b"1"},
            Slo(ttft_s=0.001),
        ),
        ({b"x-sgl-tps-slo": b"1", b"x-llm-d-slo-tpot-ms": b"2"}, Slo(tpot_s=0.002)),
        ({b"x-sgl-tps-slo": b"10", b"x-slo-ttft-ms": b"2"}, Slo(ttft_s=0.002, tpot_s=0.1)),
    ],
)
def test_headers(headers: dict[bytes, bytes], slo: Slo) -> None:
    assert header_bounds(headers) == slo


FAMILIES = [
    b"x-slo-ttft-ms",
    b"x-slo-tpot-ms",
    b"x-llm-d-slo-ttft-ms",
    b"x-llm-d-slo-tpot-ms",
    b"x-sgl-ttft-slo-ms",
    b"x-sgl-tps-slo",
]
BAD_NUMBERS = [
    b"", b"0", b"-0", b"-1", b"nan", b"inf", b"Infinity", b"1e999", b"1e-999", b"1_000", b"0x10",
    b"1,5", b"1 2", b"5ms", b"\xb2", b"\xff", b"9" * 400, b"+-1", b"e", b".",
]  # fmt: skip


@pytest.mark.parametrize("value", BAD_NUMBERS)
@pytest.mark.parametrize("name", FAMILIES)
def test_bad_headers_are_named(name: bytes, value: bytes) -> None:
    good = b"x-slo-tpot-ms" if b"ttft" in name else b"x-slo-ttft-ms"
    with pytest.raises(InvalidRequestError) as caught:
        promise_of({good: b"1", name: value})
    assert caught.value.param == name.decode()
    assert caught.value.message.startswith(f"{name.decode()}: ")
    assert caught.value.message.endswith("is not a positive finite number")
    assert len(caught.value.message) < 400


@pytest.mark.parametrize(
    ("body", "slo"),
    [
        (b"{}", Slo()),
        (b'{"slo":null}', Slo()),
        (b'{"slo":{}}', Slo()),
        (b'{"slo":{"ttft_ms":null,"tpot_ms":5}}', Slo(tpot_s=0.005)),
        (
            b'{"slo":{"ttft_ms":1000,"tpot_ms":50.5,"e2e_ms":2e4}}',
            Slo(ttft_s=1.0, tpot_s=0.0505, e2e_s=20.0),
        ),
        (b'{"slo":{"ttft_ms":1},"slo":{"ttft_ms":2}}', Slo(ttft_s=0.002)),
    ],
)
def test_body(body: bytes, slo: Slo) -> None:
    assert body_bounds(read_routing_fields(body).slo) == slo


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b'{"slo":5}', "slo"),
        (b'{"slo":[]}', "slo"),
        (b'{"slo":{"ttft":5}}', "slo"),
        (b'{"slo":{"ttft_ms":"5"}}', "slo.ttft_ms"),
        (b'{"slo":{"ttft_ms":true}}', "slo.ttft_ms"),
        (b'{"slo":{"ttft_ms":0}}', "slo.ttft_ms"),
        (b'{"slo":{"tpot_ms":-0.0}}', "slo.tpot_ms"),
        (b'{"slo":{"e2e_ms":-1}}', "slo.e2e_ms"),
        (b'{"slo":{"e2e_ms":1e-323}}', "slo.e2e_ms"),
        (b'{"slo_class":5}', "slo_class"),
        (b'{"slo_class":["chat"]}', "slo_class"),
        (b'{"slo_class":"nobody"}', "slo_class"),
    ],
)
def test_bad_bodies_are_named(body: bytes, param: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        promise_of({}, body)
    assert caught.value.param == param
    assert caught.value.message.startswith(f"{param}: ")


def test_a_number_out_of_range_is_refused() -> None:
    with pytest.raises(InvalidRequestError):
        promise_of({}, b'{"slo":{"e2e_ms":1e999}}')


def chat(source: SloSource, slo: Slo = CHAT) -> Promise:
    return Promise(slo=slo, class_name="chat", source=source)


BATCH_BY_RULE = Promise(slo=Slo(e2e_s=60.0), class_name="batch", source=SloSource.RULE)


@pytest.mark.parametrize(
    ("headers", "body", "promise"),
    [
        ({}, b"{}", NO_PROMISE),
        ({b"x-slo-class": b"chat"}, b"{}", chat(SloSource.CLASS)),
        ({b"x-slo-class": b" chat "}, b'{"slo_class":"batch"}', chat(SloSource.CLASS)),
        ({}, b'{"slo_class":"chat"}', chat(SloSource.CLASS)),
        ({}, b'{"slo_class":null}', NO_PROMISE),
        (
            {b"x-slo-class": b"chat", b"x-slo-ttft-ms": b"9"},
            b'{"slo":{"ttft_ms":8,"e2e_ms":7}}',
            chat(SloSource.HEADER, Slo(ttft_s=0.009, e2e_s=0.007)),
        ),
        ({}, b'{"model":"big"}', BATCH_BY_RULE),
        ({}, b'{"mod\\u0065l":"b\\u0069g"}', BATCH_BY_RULE),
        ({}, b'{"model":["big"]}', NO_PROMISE),
        ({}, b'{"model":"\xff"}', NO_PROMISE),
        ({b"authorization": b"Bearer k"}, b"{}", chat(SloSource.RULE)),
        ({b"authorization": b"bearer  k "}, b'{"model":"small"}', chat(SloSource.RULE)),
        ({b"authorization": b"Basic k"}, b"{}", NO_PROMISE),
        ({b"authorization": b"Bearer kk"}, b"{}", NO_PROMISE),
        ({b"x-slo-class": b"chat"}, b'{"model":"big"}', chat(SloSource.CLASS)),
    ],
)
def test_precedence(headers: dict[bytes, bytes], body: bytes, promise: Promise) -> None:
    assert promise_of(headers, body) == promise


@pytest.mark.parametrize(
    ("headers", "body", "param"),
    [
        ({b"x-slo-class": b"Chat"}, b"{}", "x-slo-class"),
        ({b"x-slo-class": b""}, b"{}", "x-slo-class"),
        ({b"x-slo-class": b"\xe9" * 2000}, b"{}", "x-slo-class"),
        ({b"x-slo-class": b"x"}, b'{"slo_class":"chat"}', "x-slo-class"),
        ({b"x-slo-ttft-ms": b"1"}, b'{"slo_class":"\\u0000"}', "slo_class"),
    ],
)
def test_unknown_classes(headers: dict[bytes, bytes], body: bytes, param: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        promise_of(headers, body)
    assert caught.value.param == param
    assert caught.value.message.startswith(f"{param}: there is no class ")
    assert caught.value.message.endswith("; there are chat, batch")
    assert len(caught.value.message) < 200


def test_a_default_class() -> None:
    config = SloConfig(classes={"chat": CHAT}, default_class="chat")
    assert promise_of({}, config=config) == chat(SloSource.DEFAULT)


@pytest.mark.parametrize("path", ["/tokenize", "/detokenize", "/v1/tokenize", "/v1/detokenize"])
def test_tokenizing_is_promised_nothing(path: str) -> None:
    config = SloConfig(classes={"chat": CHAT}, default_class="chat")
    headers = {b"x-slo-ttft-ms": b"5", b"x-slo-class": b"chat"}
    assert promise_of(headers, config=config, path=path) is NO_PROMISE


@pytest.mark.parametrize(
    ("promise", "text"),
    [
        (NO_PROMISE, "source=none"),
        (Promise(class_name="x"), "class=x; source=none"),
        (chat(SloSource.CLASS), "class=chat; ttft_ms=1000; tpot_ms=50; source=class"),
        (Promise(slo=Slo(e2e_s=0.0333), source=SloSource.BODY), "e2e_ms=33.3; source=body"),
        (
            Promise(slo=Slo(ttft_s=1e6, tpot_s=1e-9, e2e_s=1e20), source=SloSource.HEADER),
            "ttft_ms=1000000000; tpot_ms=1e-06; e2e_ms=1e+23; source=header",
        ),
    ],
)
def test_echo(promise: Promise, text: str) -> None:
    assert echo_line(promise) == f"x-hfx-slo: {text}\r\n".encode()


@pytest.mark.parametrize("ms", ["1", "0.1", "33.3", "1000", "12345.678", "1e7"])
def test_what_is_echoed_is_what_was_asked(ms: str) -> None:
    promise = promise_of({b"x-slo-ttft-ms": ms.encode()})
    told: Any = dict(part.split("=") for part in echo_line(promise)[11:].decode().split("; "))
    assert math.isclose(float(told["ttft_ms"]), float(ms), rel_tol=1e-12)


CLASSES_ONLY = SloConfig(classes=CONFIG.classes, default_class="batch")


def asked(promises: Promises, headers: dict[bytes, bytes], body: bytes = b"{}") -> Promise:
    request = ParsedRequest(b"POST", b"/generate", list(headers.items()), False)
    return promises.promise(request, read_routing_fields(body), BY_PATH["/generate"])


def test_what_is_remembered_is_told_apart_by_every_header() -> None:
    promises = Promises(CLASSES_ONLY)
    everything_asked = [
        ({}, b"{}"),
        ({b"x-slo-ttft-ms": b"500"}, b"{}"),
        ({b"x-slo-ttft-ms": b"50"}, b"{}"),
        ({b"x-slo-tpot-ms": b"500"}, b"{}"),
        ({b"x-slo-ttft-ms": b"500", b"x-slo-class": b"chat"}, b"{}"),
        ({b"x-slo-class": b"chat"}, b"{}"),
        ({b"x-slo-ttft-ms": b"500"}, b'{"slo":{"e2e_ms":1000}}'),
        ({b"x-slo-ttft-ms": b"500"}, b'{"slo_class":"chat"}'),
    ]
    fresh = [asked(Promises(CLASSES_ONLY), *each) for each in everything_asked]
    assert len(set(map(repr, fresh))) == len(everything_asked) - 1  # the class by header or body
    for _ in range(2):
        assert [asked(promises, *each) for each in everything_asked] == fresh


def test_a_promise_that_was_asked_for_before_is_not_worked_out_again() -> None:
    promises = Promises(CLASSES_ONLY)
    headers = {b"x-slo-ttft-ms": b"500", b"x-slo-tpot-ms": b"50"}
    assert asked(promises, headers) is asked(promises, {**headers, b"x-other": b"1"})


def test_a_bad_value_is_refused_each_time() -> None:
    promises = Promises(CLASSES_ONLY)
    for _ in range(2):
        with pytest.raises(InvalidRequestError, match="x-slo-ttft-ms"):
            asked(promises, {b"x-slo-ttft-ms": b"-1"})


def test_the_memory_of_promises_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hfx_router.exchange.promises._MAX_KNOWN", 3)
    promises = Promises(CLASSES_ONLY)
    for ms in range(1, 20):
        assert asked(promises, {b"x-slo-ttft-ms": b"%d" % ms}).slo.ttft_s == ms / 1000
        assert len(promises._known) <= 3
