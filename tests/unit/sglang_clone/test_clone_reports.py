from typing import Any

import pytest
from hfx_transfer.sglang.weights.report import (
    Load,
    parse_build,
    parse_identity,
    parse_load,
    parse_rank,
)
from support.fake_sglang import loads, model_info, rank_info, server_info

from hfx_sgl.errors import TransferError, TransferFault
from hfx_sgl.types import Role


def test_what_a_server_is() -> None:
    identity = parse_identity(model_info(disaggregation_mode="decode", weight_version="v7"))
    assert identity.role is Role.DECODE
    assert identity.weight_version == "v7"
    assert identity.served_model_name == "tiny"
    assert identity.load_format == "auto"


def test_the_layout_is_what_was_asked_for_and_not_what_sglang_made_of_it() -> None:
    command = "--model-path m --tp 2 --dtype bfloat16 --enable-dp-attention --dp 2"
    build = parse_build(server_info(tp_size=2, dtype="auto", launch_command=command))
    assert build.tp_size == 2
    assert build.layout["tp_size"] == "2"
    assert build.layout["dtype"] == "bfloat16"
    assert build.layout["dp_size"] == "2"


def test_a_server_made_in_python_has_no_command_and_shows_its_sizes() -> None:
    build = parse_build(server_info(tp_size=4, ep_size=2, dtype="float16", launch_command=None))
    layout = (build.layout["tp_size"], build.layout["ep_size"], build.layout["dtype"])
    assert layout == ("4", "2", "float16")


def test_weights_of_a_rank() -> None:
    weights = parse_rank(rank_info("[::1]:16001", extra=[1, 10, 4]))
    assert weights.session == "[::1]:16001"
    assert weights.sizes_bytes == {"embed.weight": 128, "norm.weight": 16, "extra": 40}
    assert weights.size_bytes == 184


def test_load_is_summed_over_data_parallel_ranks() -> None:
    both = {"loads": [*loads(3, 100)["loads"], *loads(1, 50)["loads"]]}
    both["loads"][0]["num_waiting_reqs"] = 2
    assert parse_load(both) == Load(num_requests=6, num_tokens=150)


def rank_of(session: Any, tensors: Any) -> Any:
    return {"remote_instance_transfer_engine_info": [session, tensors]}


BAD: list[tuple[Any, Any]] = [
    (parse_identity, "gibberish"),
    (parse_identity, {}),
    (parse_identity, model_info(disaggregation_mode="both")),
    (parse_identity, model_info(weight_version=3)),
    (parse_identity, model_info(served_model_name=None)),
    (parse_build, server_info(tp_size="many")),
    (parse_build, server_info(version=None)),
    (parse_build, server_info(launch_command="--model-path 'no end")),
    (parse_rank, {"error": {"message": "no"}}),
    (parse_rank, rank_of("127.0.0.1:16000", {})),
    (parse_rank, rank_of("127.0.0.1", {"a": [1, 1, 1]})),
    (parse_rank, rank_of(None, {"a": [1, 1, 1]})),
    (parse_rank, rank_of("h:1", {"a": [0, 1, 1]})),
    (parse_rank, rank_of("h:1", {"a": [1, 0, 1]})),
    (parse_rank, rank_of("h:1", {"a": [1, 1]})),
    (parse_rank, rank_of("h:1", {"a": [1, 1, "2"]})),
    (parse_load, {"loads": [{}]}),
    (parse_load, []),
]


@pytest.mark.parametrize(("parse", "answer"), BAD)
def test_half_an_answer_is_no_answer(parse: Any, answer: Any) -> None:
    with pytest.raises(TransferError) as caught:
        parse(answer)
    assert caught.value.fault is TransferFault.PROTOCOL
