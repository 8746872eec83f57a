from dataclasses import replace
from typing import Any

import pytest

from hfx_sgl.errors import ConfigError
from hfx_sgl.policy.transfer.config import SourceConfig
from hfx_sgl.policy.transfer.sources import (
    Candidate,
    Layout,
    Locality,
    Refusal,
    SourceChoice,
    Wanted,
    choose_sources,
)
from hfx_sgl.types import Role

LAYOUT = Layout(model_hash="m1", tensor_parallel_size=2)
WANTED = Wanted(size_bytes=10**10, layout=LAYOUT, host_id="here", rack_id="a")
CONFIG = SourceConfig()


def candidate(name: str = "c", **fields: Any) -> Candidate:
    plain = Candidate(source_id=name, host_id="there", rack_id="a", layout=LAYOUT, generation=1)
    return replace(plain, **fields)


def choose(*candidates: Candidate, wanted: Wanted = WANTED) -> SourceChoice:
    return choose_sources(wanted, candidates, CONFIG)


def order(choice: SourceChoice) -> list[str]:
    return [source.source_id for source in choice.ranked]


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        ({"host_id": "here"}, {}),
        ({}, {"rack_id": "b"}),
        ({}, {"rack_id": None}),
        ({}, {"num_running_tokens": 50_000}),
        ({}, {"num_running_requests": 1}),
        ({}, {"busy_link_ratio": 0.3}),
        ({}, {"num_leases": 1}),
        ({"role": Role.DECODE}, {"role": Role.PREFILL}),
        ({"role": Role.REGULAR}, {"role": Role.PREFILL}),
        # What is busy nearby loses against what is idle farther away.
        ({"rack_id": "b"}, {"busy_link_ratio": 0.9}),
    ],
)
def test_the_better_source_goes_first(better: dict[str, object], worse: dict[str, object]) -> None:
    # By id alone it would be the other way round.
    choice = choose(candidate("a", **worse), candidate("z", **better))
    assert order(choice) == ["z", "a"]
    assert choice.ranked[0].cost_s < choice.ranked[1].cost_s


def test_equal_sources_go_by_id_however_they_are_listed() -> None:
    one, other = candidate("a"), candidate("b")
    assert order(choose(one, other)) == order(choose(other, one)) == ["a", "b"]


@pytest.mark.parametrize(
    ("fields", "refusal", "reason"),
    [
        ({"layout": replace(LAYOUT, model_hash="m2")}, Refusal.OTHER_MODEL, "has model m2"),
        (
            {"layout": replace(LAYOUT, tensor_parallel_rank=1)},
            Refusal.OTHER_LAYOUT,
            "has tensor rank 1 of 2",
        ),
        (
            {"layout": replace(LAYOUT, pipeline_parallel_size=4)},
            Refusal.OTHER_LAYOUT,
            "pipeline rank 0 of 4",
        ),
        (
            {"layout": replace(LAYOUT, expert_parallel_size=8)},
            Refusal.OTHER_LAYOUT,
            "expert rank 0 of 8",
        ),
        ({"generation": 0}, Refusal.OTHER_GENERATION, "has generation 0, wanted is 1"),
        (
            {"num_leases": 2, "max_leases": 2},
            Refusal.NO_LEASE_FREE,
            "has given 2 of 2 leases",
        ),
    ],
)
def test_who_is_not_able_to_is_refused_with_the_reason(
    fields: dict[str, object], refusal: Refusal, reason: str
) -> None:
    choice = choose(candidate("bad", host_id="here", **fields), candidate("good"))
    assert order(choice) == ["good"]
    (refused,) = choice.refused
    assert (refused.source_id, refused.refusal) == ("bad", refusal)
    assert reason in refused.reason


def test_without_a_wish_the_newest_generation_of_the_same_layout_is_taken() -> None:
    newest_elsewhere = candidate("x", generation=9, layout=Layout(model_hash="other"))
    old, new = candidate("old", generation=3), candidate("new", generation=4)
    assert order(choose(old, new, newest_elsewhere)) == ["new"]
    assert order(choose(old, new, wanted=replace(WANTED, generation=3))) == ["old"]


def test_a_newer_generation_counts_though_its_leases_are_spent() -> None:
    new = candidate("new", generation=2, num_leases=1, max_leases=1)
    choice = choose(candidate("old", generation=1), new)
    assert order(choice) == []
    assert [each.refusal for each in choice.refused] == [
        Refusal.NO_LEASE_FREE,
        Refusal.OTHER_GENERATION,
    ]


def test_costs_are_made_of_what_they_say() -> None:
    loaded = candidate(
        role=Role.PREFILL,
        num_running_tokens=95_000,
        num_running_requests=10,
        busy_link_ratio=0.5,
        num_leases=1,
    )
    (source,) = choose(loaded).ranked
    assert source.locality is Locality.SAME_RACK
    # A quarter of 1.25e9: half of the link is busy, the rest is shared with one more.
    assert source.pull_s == pytest.approx(10**10 / (1.25e9 / 4))
    assert source.load_cost == pytest.approx(0.5)
    assert source.role_cost == pytest.approx(0.5)
    assert source.cost_s == pytest.approx(2 * source.pull_s)
    assert source.reason == "same_rack, pull 32 s, load +50%, role +50%: cost 64 s"


def test_a_source_whose_link_is_full_is_the_last_resort() -> None:
    choice = choose(candidate("full", busy_link_ratio=1.0, host_id="here"), candidate("z"))
    assert order(choice) == ["z", "full"]
    assert choice.ranked[1].cost_s == float("inf")


def test_unknown_racks_are_not_taken_to_be_the_same() -> None:
    wanted = replace(WANTED, rack_id=None)
    (source,) = choose(candidate(rack_id=None), wanted=wanted).ranked
    assert source.locality is Locality.ELSEWHERE


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("num_running_requests", -1),
        ("num_running_tokens", -1),
        ("busy_link_ratio", 1.5),
        ("num_leases", -1),
    ],
)
def test_reports_that_make_no_sense_are_refused(field: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"c: {field}"):
        replace(candidate(), **{field: value})


@pytest.mark.parametrize(
    "field", ["same_host_bytes_per_s", "same_rack_bytes_per_s", "elsewhere_bytes_per_s"]
)
def test_rates_must_be_above_zero(field: str) -> None:
    with pytest.raises(ConfigError, match=field):
        SourceConfig(**{field: 0})
