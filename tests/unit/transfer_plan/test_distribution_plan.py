import pytest
from support.transfer_plan import GB, host, task

from hfx_sgl.errors import ConfigError
from hfx_sgl.policy.transfer.config import PlanConfig
from hfx_sgl.policy.transfer.distribution import DistributionPlan, Shape, plan_distribution
from hfx_sgl.policy.transfer.network import HostLinks, Network, PairLimit, Source, Store, Task
from hfx_sgl.policy.transfer.report import plan_lines

CHUNK = 8_000_000
HOP_S = 0.002
CONFIG = PlanConfig(chunk_bytes=CHUNK, hop_latency_s=HOP_S)


def plan(chosen: Task) -> DistributionPlan:
    return plan_distribution(chosen, CONFIG)


def parents(found: DistributionPlan) -> dict[str, str]:
    return {each.receiver_id: each.parent_id for each in found.assignments}


def test_one_receiver_pulls_at_the_rate_of_the_slowest_link() -> None:
    found = plan(task(["h1"], [host("h0", 2 * GB), host("h1", 1 * GB)], size_bytes=4 * GB))
    (assignment,) = found.assignments
    assert (assignment.parent_id, assignment.depth) == ("s0", 1)
    assert assignment.bytes_per_s == GB
    assert assignment.finish_s == pytest.approx(4.0 + HOP_S)
    assert found.last_finish_s == found.mean_finish_s == pytest.approx(4.0 + HOP_S)


@pytest.mark.parametrize("num_receivers", [2, 4, 8])
def test_equal_hosts_form_a_chain_because_a_second_child_halves_the_uplink(
    num_receivers: int,
) -> None:
    names = [f"h{i}" for i in range(1, num_receivers + 1)]
    found = plan(task(names, [host("h0"), *map(host, names)], size_bytes=4 * GB))
    assert found.shape is Shape.CHAIN
    # With one rate everywhere: size / rate + (depth - 1) * chunk / rate + depth * hop
    expected_s = 4.0 + (num_receivers - 1) * CHUNK / GB + num_receivers * HOP_S
    assert found.last_finish_s == pytest.approx(expected_s)
    assert found.alternatives.star_s == pytest.approx(4.0 * num_receivers + HOP_S)
    assert found.alternatives.chain_s == pytest.approx(expected_s)
    assert found.alternatives.serial_s == pytest.approx((4.0 + HOP_S) * num_receivers)


def test_what_is_small_goes_out_as_a_tree_because_hops_cost_more_than_bytes() -> None:
    names = [f"h{i}" for i in range(1, 9)]
    found = plan(task(names, [host("h0"), *map(host, names)], size_bytes=100_000))
    assert max(each.depth for each in found.assignments) == 1
    assert found.shape is Shape.STAR


def test_between_the_two_there_are_trees_no_deeper_than_needed() -> None:
    names = [f"h{i}" for i in range(1, 15)]
    found = plan(task(names, [host("h0"), *map(host, names)], size_bytes=20_000_000))
    assert found.shape is Shape.TREE
    simple = found.alternatives
    assert simple.star_s is not None
    assert found.last_finish_s < 0.9 * min(simple.star_s, simple.chain_s)


def test_an_uplink_twice_as_wide_serves_two() -> None:
    hosts = [host("h0", 2 * GB), host("h1"), host("h2")]
    found = plan(task(["h1", "h2"], hosts))
    assert parents(found) == {"r0": "s0", "r1": "s0"}
    assert {each.bytes_per_s for each in found.assignments} == {GB}


def test_whoever_is_on_the_same_host_takes_nothing_from_the_link() -> None:
    hosts = [host("h0"), host("h1")]
    found = plan(task(["h1", "h0", "h1", "h1"], hosts))
    assert parents(found)["r1"] == "s0"
    across = [name for name, parent in parents(found).items() if parent in ("s0", "r1")]
    assert sorted(across) == ["r0", "r1"], "one of three crosses the link, the others pull from it"


def test_slow_receivers_come_last_and_do_not_hold_up_the_others() -> None:
    hosts = [host("h0"), host("h1", GB / 10), host("h2"), host("h3")]
    found = plan(task(["h1", "h2", "h3"], hosts))
    finish_s = {each.receiver_id: each.finish_s for each in found.assignments}
    assert finish_s["r0"] == pytest.approx(160, rel=0.01)
    assert finish_s["r1"] == pytest.approx(16, rel=0.01)
    assert finish_s["r2"] == pytest.approx(16, rel=0.01)


def test_a_slow_way_between_racks_slows_down_only_those_behind_it() -> None:
    near = [host(f"h{i}", rack="a") for i in range(3)]
    far = [host(f"h{i}", rack="b") for i in range(3, 6)]
    chosen = task(["h3", "h1", "h4", "h2", "h5"], [*near, *far], cross_rack_bytes_per_s=GB / 2)
    found = plan(chosen)
    assert found.last_finish_s == pytest.approx(32, rel=0.01)
    finish_s = {each.receiver_id: each.finish_s for each in found.assignments}
    assert finish_s["r1"] < 17
    assert finish_s["r3"] < 17


def test_pair_limits_go_before_the_limit_between_racks() -> None:
    hosts = [host("h0", rack="a"), host("h1", rack="b"), host("h2", rack="b")]
    limit = PairLimit(from_host_id="h0", to_host_id="h2", bytes_per_s=GB / 2)
    network = Network(hosts=hosts, pair_limits=[limit], cross_rack_bytes_per_s=GB / 4)
    chosen = task(["h1", "h2"], hosts)
    found = plan(
        Task(
            size_bytes=chosen.size_bytes,
            sources=chosen.sources,
            receivers=chosen.receivers,
            network=network,
        )
    )
    assert parents(found) == {"r1": "s0", "r0": "r1"}
    assert found.last_finish_s == pytest.approx(32, rel=0.01)


def test_two_sources_share_the_work() -> None:
    names = [f"h{i}" for i in range(6)]
    found = plan(task(names[2:], list(map(host, names)), source_hosts=["h0", "h1"]))
    assert {"s0", "s1"} < set(parents(found).values())
    assert max(each.depth for each in found.assignments) == 2


def test_a_source_without_a_free_lease_is_not_used() -> None:
    hosts = [host("h0", 10 * GB), host("h1"), host("h2"), host("h3")]
    chosen = task(["h1", "h2", "h3"], hosts, num_free_leases=1)
    found = plan(chosen)
    assert list(parents(found).values()).count("s0") == 1
    assert found.alternatives.star_s is None
    assert "not possible" in list(plan_lines(found))[1]


@pytest.mark.parametrize(
    ("store_rate", "num_readers", "disk_s"),
    [
        (0.2 * GB, 0, [80.0, 80.0, 80.0]),
        (1.5 * GB, 1, [10.67, 21.33, 21.33]),
        (12 * GB, 3, [4.0, 4.0, 4.0]),
    ],
)
def test_as_many_read_from_a_store_as_each_of_them_gains_by(
    store_rate: float, num_readers: int, disk_s: list[float]
) -> None:
    names = ["h1", "h2", "h3"]
    store = Store(store_id="nfs", bytes_per_s=store_rate)
    found = plan(task(names, [host("h0"), *map(host, names)], stores=[store]))
    assert found.num_disk_faster == num_readers
    times = sorted(each.disk_finish_s or 0.0 for each in found.assignments)
    assert times == pytest.approx(disk_s, rel=0.01)
    last = list(plan_lines(found))[-1]
    assert (
        last == "disk wins nowhere" if not num_readers else f"disk wins for {num_readers}" in last
    )


def test_the_lines_name_each_receiver_its_parent_and_where_disk_wins() -> None:
    store = Store(store_id="nvme", bytes_per_s=12 * GB)
    found = plan(task(["h1", "h2"], [host("h0"), host("h1"), host("h2")], stores=[store]))
    lines = list(plan_lines(found))
    assert lines[0].startswith("chain, 2 receivers: the last is done after 16")
    assert lines[2] == (
        "  r0 from s0: 1,000 MB/s, done after 16 s, from disk after 2.67 s - DISK IS FASTER"
    )
    assert lines[3].startswith("    r1 from r0: ")
    assert lines[4] == "disk wins for 2 of 2: r0, r1"


def test_a_plan_for_many_receivers_is_near_the_time_of_one() -> None:
    names = [f"h{i}" for i in range(1, 33)]
    found = plan(task(names, [host("h0"), *map(host, names)]))
    assert found.last_finish_s < 1.03 * 16
    assert found.alternatives.star_s == pytest.approx(32 * 16, rel=0.01)


def test_bad_rates_are_all_named() -> None:
    with pytest.raises(ConfigError) as raised:
        HostLinks(
            host_id="h0",
            uplink_bytes_per_s=0.0,
            downlink_bytes_per_s=float("nan"),
            local_bytes_per_s=-1.0,
        )
    assert len(raised.value.problems) == 3
    assert raised.value.problems[0] == "h0: uplink_bytes_per_s: must be more than 0 (got 0.0)"


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"receiver_hosts": []}, "receivers: must be at least one"),
        ({"receiver_hosts": ["h9"]}, "network: no host h9"),
        ({"source_hosts": []}, "sources: none has a free lease"),
        ({"num_free_leases": 0}, "sources: none has a free lease"),
        ({"num_free_leases": -1}, "s0: num_free_leases: must be at least 0"),
        ({"size_bytes": 0}, "size_bytes: must be at least 1"),
        ({"hosts": [host("h0"), host("h1"), host("h1")]}, "host h1: given twice"),
    ],
)
def test_a_task_that_makes_no_sense_is_refused(change: dict[str, object], problem: str) -> None:
    arguments: dict[str, object] = {"receiver_hosts": ["h1"], "hosts": [host("h0"), host("h1")]}
    with pytest.raises(ConfigError) as raised:
        task(**{**arguments, **change})  # type: ignore[arg-type]
    assert problem in str(raised.value)


def test_ids_must_differ_and_stores_exist() -> None:
    chosen = task(["h1"], [host("h0"), host("h1")])
    with pytest.raises(ConfigError, match="source or receiver r0: given twice"):
        Task(
            size_bytes=1,
            sources=[Source(source_id="r0", host_id="h0")],
            receivers=chosen.receivers,
            network=chosen.network,
        )
    with pytest.raises(ConfigError, match="pair_limits: no host h7"):
        Network(
            hosts=[host("h0")],
            pair_limits=[PairLimit(from_host_id="h0", to_host_id="h7", bytes_per_s=1.0)],
        )


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("chunk_bytes", 0),
        ("hop_latency_s", -1),
        ("max_exact_trees", 0),
        ("max_trials", -1),
        ("tie_ratio", -1),
    ],
)
def test_settings_of_plans_have_limits(field: str, value: int) -> None:
    with pytest.raises(ConfigError, match=field):
        PlanConfig(**{field: value})
