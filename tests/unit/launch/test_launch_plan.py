import dataclasses

import pytest

from hfx_sgl.errors import ConfigError
from hfx_sgl.launch.devices import Device
from hfx_sgl.launch.plan import InstancePlan, plan_cluster, plan_router, plan_server
from hfx_sgl.launch.spec import ClusterSpec
from hfx_sgl.types import Role

SPEC = ClusterSpec(model_path="/models/tiny")


def value_of(plan: InstancePlan, flag: str) -> str:
    return plan.argv[plan.argv.index(flag) + 1]


def test_servers_come_in_role_order_with_numbered_names() -> None:
    plan = plan_cluster(dataclasses.replace(SPEC, num_prefill=2, num_decode=1, num_regular=1))
    assert [server.name for server in plan.servers] == [
        "prefill-0",
        "prefill-1",
        "decode-0",
        "regular-0",
    ]
    assert [server.role for server in plan.servers] == [
        Role.PREFILL,
        Role.PREFILL,
        Role.DECODE,
        Role.REGULAR,
    ]
    assert plan.router is None


def test_no_port_is_planned_twice() -> None:
    spec = dataclasses.replace(
        SPEC, num_prefill=3, num_decode=3, device=Device.NPU, router_python="python3"
    )
    plan = plan_cluster(spec)
    ports = [spec.router_port, spec.prometheus_port]
    for server in plan.servers:
        ports += [int(value_of(server, flag)) for flag in ("--port", "--nccl-port")]
        ports.append(int(value_of(server, "--disaggregation-bootstrap-port")))
    store_urls = {server.env["ASCEND_MF_STORE_URL"] for server in plan.servers}
    assert len(store_urls) == 1
    ports.append(int(store_urls.pop().rpartition(":")[2]))
    assert len(set(ports)) == len(ports)
    assert max(ports) < 32768


def test_roles_and_bootstrap_ports_reach_the_servers() -> None:
    prefill, decode = plan_cluster(SPEC).servers
    assert value_of(prefill, "--disaggregation-mode") == "prefill"
    assert value_of(decode, "--disaggregation-mode") == "decode"
    assert prefill.bootstrap_port == int(value_of(prefill, "--disaggregation-bootstrap-port"))
    (regular,) = plan_cluster(
        dataclasses.replace(SPEC, num_prefill=0, num_decode=0, num_regular=1)
    ).servers
    assert regular.bootstrap_port is None
    assert not any(word.startswith("--disaggregation") for word in regular.argv)


def test_passed_flags_come_last_so_that_they_win() -> None:
    spec = dataclasses.replace(
        SPEC,
        server_args=("--max-total-tokens", "1", "--log-level", "error"),
        decode_args=("--max-total-tokens", "2"),
    )
    prefill, decode = plan_cluster(spec).servers
    assert prefill.argv[-4:] == spec.server_args
    assert decode.argv[-6:] == (*spec.server_args, *spec.decode_args)
    # SGLang's parser takes the last value of a flag, and the device's default comes first.
    assert prefill.argv.index("--max-total-tokens") < len(prefill.argv) - 4


@pytest.mark.parametrize(
    ("model_path", "is_offline"), [("/models/tiny", True), ("some-org/some-model", False)]
)
def test_the_hub_is_off_limits_only_for_a_model_on_disk(model_path: str, is_offline: bool) -> None:
    server = plan_cluster(dataclasses.replace(SPEC, model_path=model_path)).servers[0]
    assert ("HF_HUB_OFFLINE" in server.env) is is_offline


def test_accelerators_are_dealt_in_order_whatever_a_role_needs() -> None:
    spec = dataclasses.replace(
        SPEC,
        device=Device.CUDA,
        num_decode=2,
        tp_size=2,
        prefill_args=("--pp-size", "2"),
        device_ids=("7", "6", "5", "4", "3", "2", "1", "0"),
    )
    visible = [server.env["CUDA_VISIBLE_DEVICES"] for server in plan_cluster(spec).servers]
    assert visible == ["7,6,5,4", "3,2", "1,0"]


def test_a_server_beyond_the_counts_gets_a_free_slot_and_free_devices() -> None:
    spec = dataclasses.replace(SPEC, device=Device.CUDA, tp_size=2)
    known = plan_cluster(spec).servers
    added = plan_server(spec, Role.DECODE, ordinal=1, slot=2, first_device=4)
    assert added.name == "decode-1"
    assert added.env["CUDA_VISIBLE_DEVICES"] == "4,5"
    assert added.url not in {server.url for server in known}


def test_mooncake_on_an_npu_counts_from_the_first_physical_device() -> None:
    spec = dataclasses.replace(SPEC, device=Device.NPU, transfer_backend="mooncake", tp_size=2)
    decode = plan_cluster(spec).servers[1]
    assert value_of(decode, "--base-gpu-id") == "2"
    assert decode.env["ENABLE_ASCEND_TRANSFER_WITH_MOONCAKE"] == "true"
    assert "ASCEND_RT_VISIBLE_DEVICES" not in decode.env
    with pytest.raises(ConfigError, match="consecutive"):
        plan_cluster(dataclasses.replace(spec, device_ids=("0", "2", "4", "6")))


def test_the_router_gets_every_server_with_its_bootstrap_port() -> None:
    spec = dataclasses.replace(
        SPEC, num_prefill=2, router_python="py", router_args=("--policy", "random")
    )
    plan = plan_cluster(spec)
    assert plan.router is not None
    assert plan.router.argv[0] == "py"
    words = " ".join(plan.router.argv)
    for server in plan.servers[:2]:
        assert f"--prefill {server.url} {server.bootstrap_port}" in words
    assert f"--decode {plan.servers[2].url}" in words
    assert "--pd-disaggregation" in plan.router.argv
    assert plan.router.argv[-2:] == ("--policy", "random")
    assert plan.router.ready_path == "/readiness"


def test_a_router_before_regular_servers_is_told_their_urls_only() -> None:
    servers = plan_cluster(
        dataclasses.replace(SPEC, num_prefill=0, num_decode=0, num_regular=2)
    ).servers
    router = plan_router(servers, python="py", port=30000, prometheus_port=29000, log_path="r.log")
    index = router.argv.index("--worker-urls")
    assert router.argv[index + 1 :] == tuple(server.url for server in servers)
    assert "--pd-disaggregation" not in router.argv


def test_ipv6_hosts_are_bracketed_in_urls_only() -> None:
    spec = dataclasses.replace(SPEC, host="::1", device=Device.NPU)
    server = plan_cluster(spec).servers[0]
    assert server.url == "http://[::1]:21000"
    assert value_of(server, "--host") == "::1"
    assert server.env["ASCEND_MF_STORE_URL"] == "tcp://[::1]:21005"


IMPOSSIBLE: list[tuple[str, dict[str, object]]] = [
    ("model_path", {"model_path": ""}),
    ("host", {"host": "0.0.0.0"}),
    ("host", {"host": "::"}),
    ("num_prefill", {"num_prefill": -1}),
    ("num_prefill", {"num_prefill": 0}),
    ("num_decode", {"num_decode": 0}),
    ("num_regular", {"num_prefill": 0, "num_decode": 0}),
    ("num_regular", {"num_regular": 1, "router_python": "py"}),
    ("tp_size", {"tp_size": 0, "device": Device.CUDA}),
    ("tp_size", {"tp_size": 2}),
    ("base_port", {"base_port": 80}),
    ("base_port", {"base_port": 32750}),
    ("router_port", {"router_port": 40000, "router_python": "py"}),
    ("router_port", {"router_port": 21010, "router_python": "py"}),
    ("prometheus_port", {"prometheus_port": 21001, "router_python": "py"}),
    ("prometheus_port", {"prometheus_port": 30000, "router_python": "py"}),
    ("transfer_backend", {"transfer_backend": "nixl"}),
    ("transfer_backend", {"transfer_backend": "ascend", "device": Device.CUDA}),
    ("ib_device", {"ib_device": "mlx5_0"}),
    ("device_ids", {"device": Device.CUDA, "device_ids": ("0",)}),
    ("device_ids", {"device": Device.CUDA, "tp_size": 2, "device_ids": ("0", "1", "2")}),
    ("server_args", {"server_args": ("--port", "1")}),
    ("prefill_args", {"prefill_args": ("--disaggregation-mode=decode",)}),
    ("decode_args", {"decode_args": ("--tp-size", "2")}),
    ("router_args", {"router_args": ("--prefill", "http://x")}),
]


@pytest.mark.parametrize(("field", "change"), IMPOSSIBLE)
def test_an_impossible_shape_is_refused_by_the_name_of_the_field(
    field: str, change: dict[str, object]
) -> None:
    with pytest.raises(ConfigError) as caught:
        plan_cluster(dataclasses.replace(SPEC, **change))  # type: ignore[arg-type]
    assert [problem.partition(":")[0] for problem in caught.value.problems] == [field]


def test_router_ports_do_not_matter_without_a_router() -> None:
    plan_cluster(dataclasses.replace(SPEC, router_port=21000, prometheus_port=21000))


def test_all_problems_are_named_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        plan_cluster(dataclasses.replace(SPEC, model_path="", num_decode=0, tp_size=2))
    assert len(caught.value.problems) == 3


@pytest.mark.parametrize("backend", ["mooncake", "mooncake_tcp", "nixl"])
def test_the_transfer_backend_reaches_both_roles(backend: str) -> None:
    spec = dataclasses.replace(
        SPEC, device=Device.CUDA, transfer_backend=backend, ib_device="mlx5_0"
    )
    for server in plan_cluster(spec).servers:
        assert value_of(server, "--disaggregation-transfer-backend") == backend
        assert value_of(server, "--disaggregation-ib-device") == "mlx5_0"
