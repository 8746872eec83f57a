import shlex

import pytest
from hfx_transfer.sglang.weights.spec import CloneSpec, last_value, layout_of

from hfx_sgl.launch.devices import Device
from hfx_sgl.launch.plan import plan_cluster
from hfx_sgl.launch.spec import ClusterSpec


def spec(flags: str) -> CloneSpec:
    return CloneSpec(args=tuple(shlex.split(f"--model-path /m {flags}")))


def test_a_planned_server_is_read_from_its_flags() -> None:
    planned = plan_cluster(
        ClusterSpec(
            model_path="/models/x",
            served_model_name="x",
            device=Device.CUDA,
            tp_size=4,
            sglang_python="/env/python",
            seed_weights=True,
        )
    )
    found = CloneSpec.of(planned.servers[0])
    assert found.python == "/env/python"
    assert (found.model_path, found.served_model_name) == ("/models/x", "x")
    assert found.tp_size == 4
    assert found.is_seed
    assert found.weight_version is None
    assert list(found.problems()) == []


def test_without_a_name_the_path_is_the_name() -> None:
    assert spec("").served_model_name == "/m"
    assert not spec("").is_seed


def test_the_last_value_of_a_flag_wins_in_either_spelling() -> None:
    args = shlex.split("--tp-size 1 --dtype auto --tensor-parallel-size=2")
    assert last_value(args, ("--tp-size", "--tensor-parallel-size")) == "2"
    assert last_value(args, ("--quantization",)) is None
    assert spec("--weight-version a --weight-version=b").weight_version == "b"


@pytest.mark.parametrize(
    ("flags", "equal"),
    [
        ("--tp-size 1 --log-level error", True),
        ("--dp-size 4", True),
        ("--dtype auto", True),
        ("--ep 1", True),
        ("--tp 2", False),
        ("--dtype half", False),
        ("--quantization fp8", False),
        ("--moe-runner-backend triton", False),
        ("--enable-dp-attention", False),
        ("--enable-dp-attention --dp-size 2", False),
        ("--json-model-override-args '{\"num_hidden_layers\": 1}'", False),
    ],
)
def test_what_decides_how_weights_lie(flags: str, equal: bool) -> None:
    assert (layout_of(shlex.split(flags)) == layout_of([])) is equal


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ("--load-format auto", "--load-format"),
        ("--load-format=dummy", "--load-format"),
        ("--enable-memory-saver", "reads from disk, and says so only in its log"),
        ("--model-loader-extra-config {}", "SGLang refuses it"),
        ("--speculative-algorithm EAGLE", "draft model"),
        ("--weight-cache-mode client", "--weight-cache-mode"),
        ("--pp-size 2", "pipeline"),
        ("--nnodes 2", "several nodes"),
        ("--model-path s3://bucket/model", "s3://bucket/model"),
    ],
)
def test_flags_that_sglang_would_answer_with_a_disk_load_or_worse(flags: str, named: str) -> None:
    (problem,) = spec(flags).problems()
    assert problem.startswith("bootstrap_from: ")
    assert named in problem
