from collections.abc import Callable

import pytest
from hfx_router.settings import PrefillTarget
from hfx_router.settings.values import (
    check_buckets,
    check_header_name,
    check_host,
    check_origin,
    check_token,
    check_url_path,
    check_worker_url,
    parse_control_plane_key,
    parse_prefill,
    split_items,
)
from hypothesis import given
from hypothesis import strategies as st

ACCEPTED: list[tuple[Callable[[str], object], str, object]] = [
    (check_host, "0.0.0.0", "0.0.0.0"),
    (check_host, "::", "::"),
    (check_host, "::1", "::1"),
    (check_host, "localhost", "localhost"),
    (check_host, "router-1.ns_a.svc.cluster.local.", "router-1.ns_a.svc.cluster.local."),
    (check_worker_url, "http://w:8000", "http://w:8000"),
    (check_worker_url, "http://w:8000/", "http://w:8000"),
    (check_worker_url, "http://[::1]:8000", "http://[::1]:8000"),
    (check_worker_url, "http://w", "http://w"),
    (check_header_name, "X-Request-ID", "x-request-id"),
    (check_origin, "*", "*"),
    (check_origin, "null", "null"),
    (check_origin, "https://example.com:8443", "https://example.com:8443"),
    (check_url_path, "/health?deep=1", "/health?deep=1"),
    (check_token, "sk-1:2/3", "sk-1:2/3"),
    (parse_prefill, "http://p:1", PrefillTarget(url="http://p:1")),
    (parse_prefill, "http://p:1 None", PrefillTarget(url="http://p:1")),
    (parse_prefill, "http://p:1 65535", PrefillTarget(url="http://p:1", bootstrap_port=65535)),
]

REFUSED: list[tuple[Callable[[str], object], str]] = [
    *((check_host, host) for host in (
        "", "300.1.1.1", "1.2.3", "[::1]", "a b", "-a", "a-", "a..b", "host:80", "a/b", "ä",
        "x" * 64, ".".join(["x" * 60] * 5), "a\n",
    )),
    *((check_worker_url, url) for url in (
        "", "w:8000", "http://", "http://:80", "ftp://w", "GRPC://w", "https://w", "http://w:0",
        "http://w:65536", "http://w:x", "http://w/v1", "http://w?x", "http://w#x", "http://u@w",
        "http://[::1", "http://a b", "http://a\r\nx: y", "http://300.1.1.1", "http://a,b",
    )),
    *((check_header_name, name) for name in ("", "a b", "a:", "ä", "x\r\ny")),
    *((check_origin, origin) for origin in ("", "example.com", "http://a/", "http://a\r\nb: c")),
    *((check_url_path, path) for path in ("", "health", "/a b", "/a\r\nHost: x", "/ä")),
    *((check_token, token) for token in ("", "a b", "a\r\nb", "ä")),
    *((parse_prefill, text) for text in (
        "", "http://p 0", "http://p 65536", "http://p x", "http://p -1", "http://p 1.5",
        "http://p 1 2", "8998", "http://p ²",
    )),
    *((parse_control_plane_key, text) for text in (
        "", "a", "a:b:admin", "a:b:admin:", ":b:admin:k", "a:b:root:k", "a:b:admin:k k",
    )),
]  # fmt: skip


@pytest.mark.parametrize(("check", "text", "value"), ACCEPTED)
def test_accepted(check: Callable[[str], object], text: str, value: object) -> None:
    assert check(text) == value


@pytest.mark.parametrize(("check", "text"), REFUSED)
def test_refused(check: Callable[[str], object], text: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        check(text)


@pytest.mark.parametrize("value", [[], ["http://p", True], [1], ["http://p", "1", "2"], {}, None])
def test_prefill_of_other_shapes(value: object) -> None:
    with pytest.raises(ValueError, match=r"expected|bootstrap port"):
        parse_prefill(value)


@pytest.mark.parametrize("bounds", [(), (0.0, 1.0), (1.0, 1.0), (2.0, 1.0), (-1.0,)])
def test_buckets_ascend_from_above_zero(bounds: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="ascend"):
        check_buckets(bounds)


@given(st.text())
def test_a_url_that_is_accepted_can_stand_in_a_header(text: str) -> None:
    for url in (text, f"http://{text}", f"http://a:{text}"):
        try:
            accepted = check_worker_url(url)
        except ValueError:
            continue
        assert accepted.isascii()
        assert accepted.isprintable()
        assert " " not in accepted


@given(
    st.lists(st.text(st.characters(codec="ascii", exclude_characters=', \t\r\n[]"'), min_size=1))
)
def test_items_survive_joining_with_commas(items: list[str]) -> None:
    items = [item.strip() for item in items if item.strip()]
    assert split_items(" , ".join(items)) == items
