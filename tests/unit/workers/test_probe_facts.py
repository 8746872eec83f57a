import pytest
from hfx_router.workers.probe import WorkerFacts, read_facts, role_mismatch
from hfx_router.workers.worker import WorkerSpec

from hfx_sgl.types import Role

SERVER: dict[str, object] = {
    "model_path": "/models/tiny",
    "served_model_name": "tiny",
    "tp_size": 2,
    "dp_size": 4,
    "disaggregation_mode": "prefill",
    "disaggregation_bootstrap_port": 21900,
    "version": "0.5.23",
    "internal_states": [{"x": 1}],
    "api_key": "s3cret",
}
MODEL: dict[str, object] = {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}


def test_facts_of_a_real_server() -> None:
    assert read_facts(SERVER, MODEL) == WorkerFacts(
        metadata={
            "model_path": "/models/tiny",
            "served_model_name": "tiny",
            "tp_size": 2,
            "dp_size": 4,
            "disaggregation_mode": "prefill",
            "model_type": "llama",
            "architectures": ["LlamaForCausalLM"],
            "version": "0.5.23",
        },
        model_id="tiny",
        mode="prefill",
        dp_size=4,
        bootstrap_port=21900,
    )


def test_model_info_wins_because_it_follows_a_role_flip() -> None:
    facts = read_facts(SERVER, MODEL | {"disaggregation_mode": "decode", "model_path": None})
    assert facts.mode == "decode"
    assert facts.metadata["model_path"] == "/models/tiny"


def test_silent_worker_has_no_facts() -> None:
    facts = read_facts({}, {})
    assert (facts.metadata, facts.model_id, facts.mode) == ({}, None, None)
    assert (facts.dp_size, facts.bootstrap_port) == (1, None)


@pytest.mark.parametrize(
    "server",
    [
        {"dp_size": "4", "served_model_name": 7, "disaggregation_mode": 1},
        {"dp_size": None, "disaggregation_bootstrap_port": "8998"},
        {"dp_size": 0},
    ],
)
def test_values_of_the_wrong_type_count_as_not_said(server: dict[str, object]) -> None:
    facts = read_facts(server, {})
    assert (facts.model_id, facts.mode, facts.dp_size, facts.bootstrap_port) == (
        None, None, 1, None,
    )  # fmt: skip


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize("mode", ["null", "prefill", "decode"])
def test_only_the_fitting_mode_is_accepted(role: Role, mode: str) -> None:
    reason = role_mismatch(WorkerSpec(url="http://w:1", role=role), mode)
    fits = mode == {"regular": "null"}.get(role, role)
    if fits:
        assert reason is None
    else:
        assert reason is not None
        assert all(word in reason for word in ("http://w:1", f"a {role} worker", f"mode {mode}"))


@pytest.mark.parametrize("role", list(Role))
def test_server_that_does_not_name_its_mode_is_accepted(role: Role) -> None:
    assert role_mismatch(WorkerSpec(url="http://w:1", role=role), None) is None
