import random
import re

import pytest
from hfx_router.exchange.request_headers import RequestIds, forwarded_lines


@pytest.mark.parametrize(
    "name",
    [
        b"accept",
        b"authorization",
        b"baggage",
        b"content-type",
        b"traceparent",
        b"tracestate",
        b"x-correlation-id",
        b"x-llm-d-slo-ttft-ms",
        b"x-request-id-parent",
        b"x-sgl-anything",
        b"x-slo-tpot-ms",
        b"x-smg-priority",
        b"x-smg-routing-key",
    ],
)
def test_forwarded(name: bytes) -> None:
    assert forwarded_lines([(name, b"Some Value")]) == name + b": Some Value\r\n"


@pytest.mark.parametrize(
    "name",
    [
        b"accept-encoding",
        b"connection",
        b"content-encoding",
        b"content-length",
        b"cookie",
        b"expect",
        b"host",
        b"keep-alive",
        b"te",
        b"transfer-encoding",
        b"upgrade",
        b"user-agent",
        b"x-forwarded-for",
        b"x-override-bootstrap-host",
        b"x-request-id",
        b"x-slo",
        b"x-custom",
    ],
)
def test_not_forwarded(name: bytes) -> None:
    assert forwarded_lines([(name, b"1")]) == b""


def test_order_repetition_and_odd_bytes_survive() -> None:
    lines = forwarded_lines(
        [(b"x-sgl-b", b"1"), (b"host", b"h"), (b"accept", b"\xe4"), (b"x-sgl-b", b"")]
    )
    assert lines == b"x-sgl-b: 1\r\naccept: \xe4\r\nx-sgl-b: \r\n"


def ids(*names: str) -> RequestIds:
    return RequestIds(names, random.Random(7))


@pytest.mark.parametrize(
    ("headers", "request_id"),
    [
        ({b"x-request-id": b"a"}, b"a"),
        ({b"x-correlation-id": b"b"}, b"b"),
        ({b"x-trace-id": b"c"}, b"c"),
        ({b"request-id": b"d"}, b"d"),
        ({b"request-id": b"d", b"x-correlation-id": b"b"}, b"b"),
        ({b"x-request-id": b"", b"request-id": b"d"}, b"d"),
        ({b"x-request-id": b"a" * 257, b"request-id": b"d"}, b"d"),
        ({b"x-request-id": b"a" * 256}, b"a" * 256),
    ],
)
def test_the_client_s_own_id_is_taken(headers: dict[bytes, bytes], request_id: bytes) -> None:
    assert ids().request_id(headers, "req-") == request_id


def test_configured_names_replace_the_usual_ones() -> None:
    chosen = ids("X-My-Id", "x-other")
    assert chosen.request_id({b"x-my-id": b"a", b"x-other": b"b"}, "req-") == b"a"
    assert chosen.request_id({b"x-request-id": b"c"}, "req-").startswith(b"req-")


@pytest.mark.parametrize("prefix", ["chatcmpl-", "gnt-"])
def test_made_up_ids(prefix: str) -> None:
    maker = ids()
    made = [maker.request_id({}, prefix).decode() for _ in range(1000)]
    assert len(set(made)) == 1000
    assert all(re.fullmatch(prefix + "[0-9a-f]{24}", one) for one in made)
