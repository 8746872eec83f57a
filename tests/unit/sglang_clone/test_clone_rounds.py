from typing import Any

import pytest
from hfx_transfer.sglang.weights.discover import Rejected
from hfx_transfer.sglang.weights.environment import Environment
from hfx_transfer.sglang.weights.plan import ClonePlan, Survey, rank
from hfx_transfer.sglang.weights.report import (
    RankWeights,
    SourceReport,
    parse_build,
    parse_identity,
    parse_load,
)
from hfx_transfer.sglang.weights.rounds import next_round
from hfx_transfer.sglang.weights.settings import CloneSettings
from hfx_transfer.sglang.weights.spec import CloneSpec
from support.fake_sglang import VERSION, loads, model_info, server_info

from hfx_sgl.errors import ConfigError

SPEC = CloneSpec(args=("--model-path", "/nowhere/model", "--served-model-name", "tiny"))
ENVIRONMENT = Environment(sglang_version=VERSION, has_plugin=True)
GB = 10**9


def report(
    url: str, *, size_bytes: int = GB, num_running: int = 0, num_tokens: int = 0, **model: Any
) -> SourceReport:
    return SourceReport(
        url=url,
        identity=parse_identity(model_info(**model)),
        build=parse_build(server_info()),
        ranks=(RankWeights(session="a:1", sizes_bytes={"w": size_bytes}),),
        load=parse_load(loads(num_running, num_tokens)),
    )


def plan(*reports: SourceReport, settings: CloneSettings | None = None) -> ClonePlan:
    survey = Survey(reports=reports, rejected=(Rejected(url="http://x:1", reason="dead"),))
    gone = [Rejected(url="http://y:1", reason="draining")]
    return rank(SPEC, survey, gone, ENVIRONMENT, settings or CloneSettings())


def urls(found: ClonePlan) -> list[str]:
    return [source.url for source in found.sources]


NEAR, FAR = "http://127.0.0.1:1", "http://198.51.100.1:1"


def test_the_nearer_one_comes_first() -> None:
    assert urls(plan(report(FAR), report(NEAR))) == [NEAR, FAR]


def test_load_counts_among_the_equally_near() -> None:
    busy, idle = report(NEAR, num_running=8, num_tokens=80_000), report("http://127.0.0.1:2")
    found = plan(busy, idle)
    assert urls(found) == [idle.url, busy.url]
    assert found.source is not None
    assert found.source.ranking.load_cost == 0.0


def test_a_prefill_server_has_its_link_to_do_other_things_with() -> None:
    prefill = report(NEAR, disaggregation_mode="prefill")
    decode = report("http://127.0.0.1:2", disaggregation_mode="decode")
    assert urls(plan(prefill, decode)) == [decode.url, prefill.url]


def test_every_rejection_keeps_its_reason() -> None:
    found = plan(
        report(NEAR, weight_version="v1"),
        report("http://127.0.0.1:2", weight_version="v1"),
        report("http://127.0.0.1:3", weight_version="v0"),
        report("http://127.0.0.1:4", served_model_name="other", model_path="/other"),
    )
    reasons = {each.url: each.reason for each in found.rejected}
    assert reasons["http://x:1"] == "dead"
    assert reasons["http://y:1"] == "draining"
    assert reasons["http://127.0.0.1:3"] == "it holds weight version v0, most others v1"
    assert reasons["http://127.0.0.1:4"].startswith("it serves other")
    assert len(found.sources) + len(found.rejected) == 6
    assert found.source is not None
    assert found.args(found.source)[-2:] == ("--weight-version", "v1")


def test_nobody_left_is_no_source() -> None:
    found = plan()
    assert found.source is None
    assert found.disk_problem is None


def test_on_a_fast_link_all_start_from_the_one_source_at_once() -> None:
    sources = plan(report(NEAR)).sources
    turn = next_round(["a", "b", "c"], sources, CloneSettings(), can_pass_on=True)
    assert turn == dict.fromkeys("abc", NEAR)


def test_where_sending_takes_longer_than_starting_one_goes_first() -> None:
    sources = plan(report(FAR, size_bytes=400 * GB)).sources
    turn = next_round(["a", "b", "c"], sources, CloneSettings(), can_pass_on=True)
    assert len(turn) == 1
    assert set(turn.values()) == {FAR}
    everybody = next_round(["a", "b", "c"], sources, CloneSettings(), can_pass_on=False)
    assert everybody == dict.fromkeys("abc", FAR)


def test_two_sources_share_the_work() -> None:
    second = "http://198.51.100.2:1"
    sources = plan(report(FAR), report(second)).sources
    turn = next_round(["a", "b", "c", "d"], sources, CloneSettings(), can_pass_on=True)
    assert sorted(turn.values()) == [FAR, FAR, second, second]


@pytest.mark.parametrize(
    "field",
    [
        "probe_timeout_s", "contact_timeout_s", "start_timeout_s", "silence_timeout_s",
        "checksum_timeout_s", "min_bytes_per_s", "max_sources",
    ],
)  # fmt: skip
def test_a_limit_of_zero_is_refused_by_name(field: str) -> None:
    values: dict[str, Any] = {field: 0}
    with pytest.raises(ConfigError, match=field):
        CloneSettings(**values)
