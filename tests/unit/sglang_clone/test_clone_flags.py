from dataclasses import replace

import pytest
from hfx_transfer.sglang.weights.flags import clone_args, clone_env
from hfx_transfer.sglang.weights.report import (
    RankWeights,
    SourceReport,
    parse_build,
    parse_identity,
    parse_load,
)
from support.fake_sglang import loads, model_info, server_info

GB = 10**9


def report(*ranks: RankWeights) -> SourceReport:
    return SourceReport(
        url="http://a:1",
        identity=parse_identity(model_info()),
        build=parse_build(server_info()),
        ranks=ranks,
        load=parse_load(loads()),
    )


def rank(num_tensors: int, tensor_bytes: int) -> RankWeights:
    sizes = {f"layers.{number}": tensor_bytes for number in range(num_tensors)}
    return RankWeights(session="a:1", sizes_bytes=sizes)


def test_the_flags_name_source_and_backend() -> None:
    assert clone_args("http://10.0.0.5:30000") == (
        "--load-format", "remote_instance",
        "--remote-instance-weight-loader-backend", "transfer_engine",
        "--remote-instance-weight-loader-seed-instance-ip", "10.0.0.5",
        "--remote-instance-weight-loader-seed-instance-service-port", "30000",
    )  # fmt: skip


def test_an_ipv6_address_is_bracketed_for_sglang_to_make_a_url_of() -> None:
    args = clone_args("http://[::1]:30000")
    assert "[::1]" in args


@pytest.mark.parametrize(
    ("version", "added"), [(None, ()), ("default", ()), ("v3", ("--weight-version", "v3"))]
)
def test_the_version_is_passed_on(version: str | None, added: tuple[str, ...]) -> None:
    assert clone_args("http://a:1", weight_version=version)[8:] == added


def test_a_small_model_needs_no_other_limits() -> None:
    assert clone_env(report(rank(1024, 2 << 20)), min_bytes_per_s=100e6) == {}


def test_mooncake_waits_as_long_as_the_slowest_link_takes() -> None:
    env = clone_env(report(rank(1, GB), rank(1, 20 * GB)), min_bytes_per_s=100e6)
    assert env == {"MC_TRANSFER_TIMEOUT": "200"}
    quick = clone_env(report(rank(1, 20 * GB)), min_bytes_per_s=10e9)
    assert quick == {}


def test_more_tensors_than_mooncake_queues_are_allowed_for() -> None:
    env = clone_env(replace(report(rank(3000, 8))), min_bytes_per_s=100e6)
    assert env == {
        "MC_TCP_MAX_QUEUED_TRANSFERS_PER_PEER": "3000",
        "MC_TCP_MAX_PENDING_ADMISSIONS_PER_PEER": "3000",
    }
