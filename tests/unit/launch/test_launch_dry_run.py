import shlex
from pathlib import Path

import pytest
from hfx_transfer.sglang.weights.launching import PeerWeightsFlags

from hfx_sgl.launch.cli import main
from hfx_sgl.launch.devices import Device
from hfx_sgl.launch.plan import ClusterPlan, InstancePlan, plan_cluster
from hfx_sgl.launch.render import render_plan
from hfx_sgl.launch.spec import ClusterSpec

GOLDEN = Path(__file__).with_name("golden")
ROOT = Path("/checkout")

CASES = {
    "cpu": "--device cpu --sglang-python /env/bin/python --server-args '--log-level error'",
    "cuda": "--device cuda --model-path org/model --prefill 2 --decode 2 --tp-size 2 "
    "--ib-device mlx5_0 --decode-args '--context-length 8192' --router-args '--policy random'",
    "npu": "--device npu --model-path org/model --device-ids 4,5 --no-router",
    "cuda-clone": "--device cuda --model-path org/model --host 10.0.0.7 --tp-size 2 "
    "--bootstrap-from http://10.0.0.5:21000 http://10.0.0.6:21000",
    "npu-clone": "--device npu --model-path org/model --prefill 0 --decode 1 --no-router "
    "--bootstrap-from http://[fd00::5]:21000",
    "cpu-seed": "--device cpu --sglang-python /env/bin/python --regular 1 --no-router "
    "--seed-weights",
}


@pytest.mark.parametrize("case", CASES)
def test_dry_run_prints_the_exact_commands(
    case: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("ASCEND_MF_STORE_URL", raising=False)
    if case == "npu-clone":
        monkeypatch.setenv("ASCEND_MF_STORE_URL", "tcp://[fd00::5]:21005")
    assert main(ROOT, PeerWeightsFlags(), [*shlex.split(CASES[case]), "--dry-run"]) == 0
    assert capsys.readouterr().out == (GOLDEN / f"{case}.txt").read_text()


def words_of(block: str) -> list[str]:
    return shlex.split(block.replace("\\\n", ""), comments=True)


def test_a_shell_reads_back_what_was_planned() -> None:
    plan = plan_cluster(
        ClusterSpec(model_path="/models/it's $HOME", served_model_name="a b", router_python="py")
    )
    blocks = render_plan(plan).split("\n\n")[1:]
    planned: list[InstancePlan | None] = [*plan.servers, plan.router]
    assert len(blocks) == len(planned)
    for block, instance in zip(blocks, planned, strict=True):
        assert instance is not None
        settings = [f"{name}={value}" for name, value in sorted(instance.env.items())]
        assert words_of(block) == [*settings, *instance.argv]


def test_only_cpu_servers_need_a_word_about_the_network() -> None:
    spec = ClusterSpec(model_path="m", device=Device.CUDA)
    assert "namespace" not in render_plan(plan_cluster(spec))
    empty = ClusterPlan(device=Device.CPU, servers=(), router=None)
    assert "namespace" in render_plan(empty)


def test_visible_devices_of_the_environment_are_kept(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "6, GPU-1f")
    assert (
        main(ROOT, PeerWeightsFlags(), ["--device", "cuda", "--model-path", "m", "--dry-run"]) == 0
    )
    shown = capsys.readouterr().out
    assert "CUDA_VISIBLE_DEVICES=6 " in shown
    assert "CUDA_VISIBLE_DEVICES=GPU-1f " in shown


@pytest.mark.parametrize(
    ("flags", "fields"),
    [
        ("--device cuda", ["model_path"]),
        ("--device cpu --prefill 1 --decode 0 --tp-size 2", ["num_decode", "tp_size"]),
        ("--device cuda --model-path m --device-ids 0", ["device_ids"]),
        ("--device cpu --server-args '--port 1'", ["server_args"]),
        ("--device cpu --bootstrap-from nobody", ["bootstrap_from"]),
        (
            "--device npu --model-path m --prefill 0 --decode 1 --no-router "
            "--bootstrap-from http://a:1",
            ["store_url"],
        ),
        (
            "--device cpu --bootstrap-from http://a:1 --server-args '--load-format auto'",
            ["bootstrap_from"],
        ),
        (
            "--device cpu --bootstrap-from http://a:1 --bootstrap-probe-timeout-secs 0",
            ["probe_timeout_s"],
        ),
        ("--device cpu --seed-weights --server-args=--enable-memory-saver", ["server_args"]),
        (
            "--device cpu --seed-weights --server-args '--engine-info-bootstrap-port 1'",
            ["server_args"],
        ),
    ],
)
def test_bad_flags_end_with_status_2_and_a_line_for_each_field(
    flags: str, fields: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(ROOT, PeerWeightsFlags(), [*shlex.split(flags), "--dry-run"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(":")[0] for line in lines] == fields


def test_regular_servers_alone_leave_out_the_pairs(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(
            ROOT,
            PeerWeightsFlags(),
            ["--device", "cpu", "--regular", "2", "--no-router", "--dry-run"],
        )
        == 0
    )
    shown = capsys.readouterr().out
    assert "# regular-1:" in shown
    assert "# prefill" not in shown
    assert "# decode" not in shown


def test_one_role_alone_may_join_others_but_not_behind_a_router_of_its_own(
    capsys: pytest.CaptureFixture[str],
) -> None:
    flags = ["--device", "cuda", "--model-path", "m", "--prefill", "1", "--decode", "0"]
    source = ["--bootstrap-from", "http://a:1"]
    assert main(ROOT, PeerWeightsFlags(), [*flags, "--dry-run"]) == 2
    assert main(ROOT, PeerWeightsFlags(), [*flags, *source, "--dry-run"]) == 2
    assert main(ROOT, PeerWeightsFlags(), [*flags, *source, "--no-router", "--dry-run"]) == 0
    assert "# prefill-0:" in capsys.readouterr().out


def test_every_server_of_a_host_offers_its_weights_at_a_port_of_its_own() -> None:
    spec = ClusterSpec(model_path="m", num_prefill=2, num_decode=2, seed_weights=True)
    servers = plan_cluster(spec).servers
    flag = "--engine-info-bootstrap-port"
    ports = [server.argv[server.argv.index(flag) + 1] for server in servers]
    assert ports == ["21003", "21013", "21023", "21033"]
    assert all(
        "--remote-instance-weight-loader-start-seed-via-transfer-engine" in server.argv
        for server in servers
    )
