from pathlib import Path

import pytest
from hfx_router.settings import RouterSettings, load_settings, startup_notices, unbacked_in_use
from pydantic import ValidationError

from hfx_sgl.errors import ConfigError

PD = "--pd-disaggregation"


def problems_of(argv: list[str]) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        load_settings(argv, {})
    return caught.value.problems


REFUSED = {
    "--service-discovery": "service_discovery: service discovery is not supported; name",
    "--selector app=sgl": "selector: service discovery is not supported; name the workers",
    "--prefill-selector a=b": "prefill_selector: service discovery is not supported",
    "--decode-selector a=b": "decode_selector: service discovery is not supported",
    "--service-discovery-port 81": "service_discovery_port: service discovery is not supported",
    "--service-discovery-namespace x": "service_discovery_namespace: service discovery is not",
    "--tls-cert-path c": "tls_cert_path: TLS is not supported; put a TLS-terminating proxy",
    "--tls-key-path c": "tls_key_path: TLS is not supported",
    "--client-cert-path c": "client_cert_path: TLS is not supported",
    "--client-key-path c": "client_key_path: TLS is not supported",
    "--ca-cert-paths c d": "ca_cert_paths: TLS is not supported",
    "--enable-igw": "enable_igw: one model for each router; start a router for every model",
    "--history-backend oracle": "history_backend: the router stores nothing; leave",
    "--history-backend postgres": "history_backend: the router stores nothing",
    "--history-backend redis": "history_backend: the router stores nothing",
    "--oracle-username x": "oracle_username: the router stores nothing",
    "--postgres-db-url x": "postgres_db_url: the router stores nothing",
    "--redis-retention-days -1": "redis_retention_days: the router stores nothing",
    "--jwt-issuer x": "jwt_issuer: JWT is not supported; protect",
    "--jwt-role-mapping a=admin": "jwt_role_mapping: JWT is not supported",
    "--mcp-config-path x": "mcp_config_path: MCP tools are not supported; leave",
    "--backend openai": "backend: only SGLang workers are supported; leave --backend out",
    "--worker-urls grpc://a:1": "worker_urls: 'grpc://a:1': gRPC workers are not supported; start",
    "--worker-urls https://a:1": "worker_urls: 'https://a:1': TLS to workers is not supported;",
    f"{PD} --decode grpc://a": "decode: 'grpc://a': gRPC workers are not supported",
    f"{PD} --prefill https://a 9": "prefill: 'https://a': TLS to workers is not supported",
}


@pytest.mark.parametrize("command", REFUSED)
def test_refused(command: str) -> None:
    (problem,) = problems_of(command.split())
    assert problem.startswith(REFUSED[command])


@pytest.mark.parametrize(
    "command",
    [
        "--history-backend none",
        "--history-backend memory",
        "--backend sglang",
        "--redis-pool-max 16",
        "--service-discovery-port 80",
    ],
)
def test_what_a_refused_flag_may_be(command: str) -> None:
    settings = load_settings(command.split(), {})
    assert unbacked_in_use(settings) == []


BROKEN_RULES = {
    f"{PD} --worker-urls http://a": [
        "worker_urls: regular workers cannot be combined with pd_disaggregation; name prefill and "
        "decode workers instead"
    ],
    "--prefill http://a": ["prefill: needs pd_disaggregation"],
    "--decode http://a": ["decode: needs pd_disaggregation"],
    "--worker-urls http://a:80 http://b http://A/": [
        "worker_urls: http://A was given already, in worker_urls"
    ],
    f"{PD} --prefill http://a:1 --prefill http://a:1 9 --decode http://b": [
        "prefill: http://a:1 was given already, in prefill"
    ],
    f"{PD} --prefill http://a:1 --decode http://a:1": [
        "decode: http://a:1 was given already, in prefill"
    ],
    "--port 29000": ["prometheus_port: must not be equal to port (29000)"],
    "--retry-initial-backoff-ms 500 --retry-max-backoff-ms 499": [
        "retry_max_backoff_ms: must not be less than retry_initial_backoff_ms (499 < 500)"
    ],
    "--max-concurrent-requests 0": [
        "max_concurrent_requests: must be at least 1, or -1 for no limit"
    ],
    "--enable-igw --port 29000 --decode http://a": [
        "enable_igw: one model for each router; start a router for every model",
        "decode: needs pd_disaggregation",
        "prometheus_port: must not be equal to port (29000)",
    ],
}


@pytest.mark.parametrize("command", BROKEN_RULES)
def test_broken_rules(command: str) -> None:
    assert list(problems_of(command.split())) == BROKEN_RULES[command]


@pytest.mark.parametrize(
    "command",
    [
        "--port 29000 --disable-prometheus",
        "--port 0 --prometheus-port 0",
        "--retry-initial-backoff-ms 500 --retry-max-backoff-ms 500",
        "--worker-urls http://a:1 http://a:2",
        "--max-concurrent-requests -1",
        "--max-concurrent-requests 1",
    ],
)
def test_edges_of_the_rules(command: str) -> None:
    assert load_settings(command.split(), {}) != RouterSettings(host="::1")


def test_rules_hold_for_the_model_itself() -> None:
    with pytest.raises(ValidationError, match="prometheus_port"):
        RouterSettings(port=29000)


@pytest.mark.parametrize(
    "policy", ["random", "round_robin", "cache_aware", "power_of_two", "manual", "least_load"]
)
@pytest.mark.parametrize("flag", ["--policy", "--prefill-policy", "--decode-policy"])
def test_built_in_policies(flag: str, policy: str) -> None:
    settings = load_settings([flag, policy], {})
    assert getattr(settings, flag.removeprefix("--").replace("-", "_")) == policy


@pytest.mark.parametrize("flag", ["policy", "decode-policy"])
def test_bucket_is_for_prefill_workers(flag: str) -> None:
    assert load_settings(["--prefill-policy", "bucket"], {}).prefill_policy == "bucket"
    (problem,) = problems_of([f"--{flag}", "bucket"])
    known = "hfx, random" if flag == "policy" else "random"
    assert problem == (
        f"{flag.replace('-', '_')}: unknown policy 'bucket', expected one of {known}, round_robin, "
        "cache_aware, power_of_two, least_load, manual; bucket is for prefill workers only "
        f"(--{flag})"
    )


def test_a_policy_of_an_installed_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "stranger-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: stranger\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[hfx_sgl.policies]\nstrange = stranger:make\n")
    (problem,) = problems_of(["--policy", "strange"])
    assert "manual (" in problem

    monkeypatch.syspath_prepend(tmp_path)
    assert load_settings(["--policy", "strange"], {}).policy == "strange"
    (problem,) = problems_of(["--policy", "stranger"])
    assert "manual, strange (" in problem


def test_unbacked_settings_are_named_with_what_happens() -> None:
    settings = load_settings(
        ["--mini-lb", "--tokenizer-cache-enable-l0", "--otlp-traces-endpoint", "h:1"], {}
    )
    assert sorted(unbacked_in_use(settings)) == [
        "mini_lb: hfx-router takes the place of mini-lb",
        "otlp_traces_endpoint: no spans are exported; traceparent and tracestate reach the workers "
        "all the same",
        "tokenizer_cache_enable_l0: tokens are counted anew for every prompt, in a thread of their "
        "own",
    ]
    assert unbacked_in_use(RouterSettings()) == []


@pytest.mark.parametrize(
    ("command", "about"),
    [
        ("", ["worker_urls"]),
        ("--worker-urls http://a", []),
        (PD, ["prefill", "decode"]),
        (f"{PD} --prefill http://a", ["decode"]),
        (f"{PD} --prefill http://a --decode http://b --prefill-policy random", []),
        ("--worker-urls http://a --prefill-policy random", ["prefill_policy"]),
        ("--worker-urls http://a --decode-policy random", ["decode_policy"]),
    ],
)
def test_startup_notices(command: str, about: list[str]) -> None:
    notices = startup_notices(load_settings(command.split(), {}))
    assert [notice.partition(":")[0] for notice in notices] == about
