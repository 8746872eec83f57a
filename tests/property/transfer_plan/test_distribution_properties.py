from collections import Counter
from dataclasses import replace
from random import Random

from hypothesis import given
from hypothesis import strategies as st
from support.transfer_plan import rates, tasks

from hfx_sgl.policy.transfer.config import PlanConfig
from hfx_sgl.policy.transfer.distribution import DistributionPlan, plan_distribution
from hfx_sgl.policy.transfer.forecast import Forecast
from hfx_sgl.policy.transfer.network import HostLinks, Network, PairLimit, Store, Task
from hfx_sgl.policy.transfer.search import best_tree
from hfx_sgl.policy.transfer.storage import readings

CONFIG = PlanConfig(max_exact_trees=300, max_trials=300)
STRICT = PlanConfig(max_exact_trees=300, max_trials=300, tie_ratio=0)
"""The last finish alone counts."""
GROWN = PlanConfig(max_exact_trees=1, max_trials=300, tie_ratio=0)
"""Never tries every tree, but where there is one only."""
EXACT = PlanConfig(max_exact_trees=3_000, tie_ratio=0)

ROUNDING = 1 + 1e-6


def plan(task: Task, config: PlanConfig = CONFIG) -> DistributionPlan:
    return plan_distribution(task, config)


@given(tasks())
def test_every_receiver_is_reached_from_a_source_in_as_many_hops_as_it_says(task: Task) -> None:
    assignments = plan(task).assignments
    reached = {source.source_id: 0 for source in task.sources}
    for assignment in assignments:  # Parents come first, so a cycle would find no parent here.
        assert assignment.receiver_id not in reached, "it has one parent"
        assert assignment.depth == reached[assignment.parent_id] + 1
        reached[assignment.receiver_id] = assignment.depth
    assert set(reached) == {s.source_id for s in task.sources} | {
        r.receiver_id for r in task.receivers
    }


@given(tasks())
def test_no_source_gets_more_than_it_has_leases(task: Task) -> None:
    children = Counter(assignment.parent_id for assignment in plan(task).assignments)
    for source in task.sources:
        if source.num_free_leases is not None:
            assert children[source.source_id] <= source.num_free_leases


@given(tasks(), st.sampled_from([CONFIG, STRICT, GROWN]))
def test_never_worse_than_simpler_ways(task: Task, config: PlanConfig) -> None:
    found = plan(task, config)
    simple = found.alternatives
    limits = [simple.chain_s, simple.star_s]
    # One after the other from a source with few leases uses one again, which no plan does.
    num = len(task.receivers)
    rich = [s for s in task.sources if s.num_free_leases is None or s.num_free_leases >= num]
    if rich:
        limits.append(plan(replace(task, sources=rich), config).alternatives.serial_s)
    for limit_s in limits:
        if limit_s is not None:
            assert found.last_finish_s <= limit_s * (1 + config.tie_ratio) * ROUNDING


@given(tasks(max_receivers=3))
def test_grown_trees_are_hardly_worse_than_the_best_there_is(task: Task) -> None:
    best_s = plan(task, EXACT).last_finish_s
    assert best_s <= plan(task, GROWN).last_finish_s <= 1.1 * best_s * ROUNDING


@given(tasks(max_receivers=5), st.randoms(use_true_random=False))
def test_the_order_in_which_things_are_listed_does_not_matter(task: Task, rng: Random) -> None:
    sources, receivers = list(task.sources), list(task.receivers)
    rng.shuffle(sources)
    rng.shuffle(receivers)
    shuffled = replace(task, sources=sources, receivers=receivers)
    assert plan(shuffled).assignments == plan(task).assignments == plan(task).assignments


def raised(network: Network, place: int, factor: float) -> Network:
    """Return the network with one of its rates raised; which one, `place` says."""
    hosts, pairs = list(network.hosts), list(network.pair_limits)
    place %= 3 * len(hosts) + len(pairs) + 1
    if place < 3 * len(hosts):
        index, what = divmod(place, 3)
        old = hosts[index]
        hosts[index] = HostLinks(
            host_id=old.host_id,
            rack_id=old.rack_id,
            uplink_bytes_per_s=old.uplink_bytes_per_s * (factor if what == 0 else 1),
            downlink_bytes_per_s=old.downlink_bytes_per_s * (factor if what == 1 else 1),
            local_bytes_per_s=old.local_bytes_per_s * (factor if what == 2 else 1),
        )
    elif place < 3 * len(hosts) + len(pairs):
        index = place - 3 * len(hosts)
        limit = pairs[index]
        pairs[index] = PairLimit(
            from_host_id=limit.from_host_id,
            to_host_id=limit.to_host_id,
            bytes_per_s=limit.bytes_per_s * factor,
        )
    cross = network.cross_rack_bytes_per_s
    cross *= factor if place == 3 * len(hosts) + len(pairs) else 1
    return Network(hosts=hosts, pair_limits=pairs, cross_rack_bytes_per_s=cross)


@given(tasks(max_receivers=3), st.integers(0, 100), st.sampled_from([1.01, 2.0, 30.0]))
def test_a_faster_link_makes_no_plan_slower(task: Task, place: int, factor: float) -> None:
    faster = replace(task, network=raised(task.network, place, factor))
    assert plan(faster, EXACT).last_finish_s <= plan(task, EXACT).last_finish_s * ROUNDING


@given(tasks(), st.integers(0, 100), st.sampled_from([1.01, 2.0, 30.0]))
def test_a_faster_link_makes_nobody_in_a_tree_later(task: Task, place: int, factor: float) -> None:
    before = Forecast(task, CONFIG)
    found = best_tree(before, CONFIG)
    faster = replace(task, network=raised(task.network, place, factor))
    after = Forecast(faster, CONFIG)
    places = after.places(found.parents)
    assert places is not None
    for early, late in zip(places, found.places, strict=True):
        assert after.finish_s(early) <= before.finish_s(late) * ROUNDING


@given(tasks(max_receivers=5))
def test_the_mean_is_bought_with_no_more_than_the_tie_allows(task: Task) -> None:
    lax, strict = plan(task), plan(task, STRICT)
    assert lax.last_finish_s <= strict.last_finish_s * (1 + CONFIG.tie_ratio) * ROUNDING
    assert lax.mean_finish_s <= strict.mean_finish_s * ROUNDING


@given(tasks(max_receivers=5))
def test_moving_one_receiver_makes_no_grown_plan_better(task: Task) -> None:
    forecast = Forecast(task, GROWN)
    found = best_tree(forecast, replace(GROWN, max_trials=10_000))
    for place in range(len(found.parents)):
        for parent in range(len(forecast.hosts)):
            moved = (*found.parents[:place], parent, *found.parents[place + 1 :])
            places = forecast.places(moved)
            if places is not None:
                assert max(map(forecast.finish_s, places)) >= found.last_s / ROUNDING


@given(tasks(), st.lists(rates, min_size=1, max_size=2), st.data())
def test_whoever_is_told_to_read_its_disk_is_done_sooner(
    task: Task, store_rates: list[float], data: st.DataObject
) -> None:
    stores = [Store(store_id=f"d{i}", bytes_per_s=rate) for i, rate in enumerate(store_rates)]
    names = st.sampled_from([None, *(store.store_id for store in stores)])
    receivers = [replace(each, store_id=data.draw(names)) for each in task.receivers]
    found = plan(replace(task, stores=stores, receivers=receivers))
    store_of = {each.receiver_id: each.store_id for each in receivers}
    readers = Counter(store_of[a.receiver_id] for a in found.assignments if a.is_disk_faster)
    rate_of = {store.store_id: store.bytes_per_s for store in stores}
    for assignment in found.assignments:
        store_id = store_of[assignment.receiver_id]
        if store_id is None:
            assert assignment.disk_finish_s is None
            assert not assignment.is_disk_faster
            continue
        one_more = readers[store_id] + (not assignment.is_disk_faster)
        assert assignment.disk_finish_s is not None
        together_s = one_more * task.size_bytes / rate_of[store_id]
        assert abs(assignment.disk_finish_s - together_s) <= 1e-9 * together_s
        assert assignment.is_disk_faster == (assignment.disk_finish_s < assignment.finish_s)


@given(tasks(), rates)
def test_reading_from_disk_instead_makes_no_chunk_late_for_those_behind(
    task: Task, rate: float
) -> None:
    forecast = Forecast(task, CONFIG)
    found = best_tree(forecast, CONFIG)
    receivers = [replace(each, store_id="d") for each in forecast.receivers]
    finish_s = {
        receiver.receiver_id: forecast.finish_s(place)
        for receiver, place in zip(receivers, found.places, strict=True)
    }
    store = Store(store_id="d", bytes_per_s=rate)
    disk = readings(task.size_bytes, receivers, [store], finish_s)
    num_chunks = 10
    for receiver, place in zip(receivers, found.places, strict=True):
        reading = disk[receiver.receiver_id]
        if not reading.is_faster:
            continue
        # The last chunk comes at `finish_s`, those before it one chunk's time apart.
        step_s = task.size_bytes / num_chunks / place.bytes_per_s
        for chunk in range(1, num_chunks + 1):
            by_peer_s = finish_s[receiver.receiver_id] - (num_chunks - chunk) * step_s
            assert reading.finish_s * chunk / num_chunks <= by_peer_s * ROUNDING
