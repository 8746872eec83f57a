import pytest
from hfx_router.workers.registry import Registry
from hfx_router.workers.worker import WorkerSpec, split_worker_url

from hfx_sgl.errors import ConfigError
from hfx_sgl.types import Role


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("http://10.0.0.1:30000", "10.0.0.1", 30000),
        ("http://10.0.0.1:30000/", "10.0.0.1", 30000),
        ("http://Worker-1.pool.svc", "worker-1.pool.svc", 80),
        ("http://[::1]:21000", "::1", 21000),
    ],
)
def test_worker_url(url: str, host: str, port: int) -> None:
    assert split_worker_url(url) == (host, port)


@pytest.mark.parametrize(
    "url",
    [
        "not a url",
        "10.0.0.1:30000",
        "https://10.0.0.1",
        "grpc://10.0.0.1:30000",
        "ftp://10.0.0.1",
        "http://",
        "http://10.0.0.1:0",
        "http://10.0.0.1:99999",
        "http://10.0.0.1:port",
        "http://10.0.0.1/v1",
        "http://10.0.0.1?x=1",
        "http://10.0.0.1#x",
        "http://user:pw@10.0.0.1",
        "http://@10.0.0.1",
        "http://10.0.0.1\r\nx-evil: 1",
        "http://a b:80",
        'http://a"b:80',
    ],
)
def test_bad_worker_url_is_refused_with_its_text(url: str) -> None:
    with pytest.raises(ConfigError, match="worker url"):
        split_worker_url(url)


def test_ipv6_host_is_bracketed_where_urls_and_bootstrap_need_it(registry: Registry) -> None:
    worker = registry.new_worker("w", WorkerSpec(url="http://[fd00::1]:21000", role=Role.PREFILL))
    assert worker.host == "fd00::1"
    assert worker.bootstrap_host == "[fd00::1]"
    assert worker.base_url == "http://[fd00::1]:21000"


def test_rank_is_shown_behind_the_url(registry: Registry) -> None:
    worker = registry.new_worker("w", WorkerSpec(url="http://10.0.0.1:30000", dp_rank=2))
    assert worker.shown_url == "http://10.0.0.1:30000@2"
    assert worker.base_url == "http://10.0.0.1:30000"


def test_api_key_is_not_in_the_repr() -> None:
    assert "s3cret" not in repr(WorkerSpec(url="http://a", api_key="s3cret"))
